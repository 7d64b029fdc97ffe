/**
 * Logins: a user signs the broker's challenge and gets a token for an hour. Nothing of it is stored. Nobody is refused for
 * asking often: to answer a stranger costs hardly more than to refuse, and a limit would be a way to keep others out. SPEC §3.1
 */
import { randomBytes } from 'node:crypto'
import { brokerProofMessage, loginMessage, verifyLogin } from '../../protocol/control/login.ts'
import { decodeBase64url, encodeBase64url, encodeHex } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { sha256, signingPublicKey } from '../../protocol/core/signing.ts'
import { Challenges } from './challenges.ts'
import { mayVerify, signer } from './ed25519.ts'

const TOKEN_MS = 3_600_000
/** beyond which the oldest go, of the user's own first */
const MOST_TOKENS = 100_000
const MOST_TOKENS_PER_USER = 256

export type Role = 'user' | 'administrator'

export interface User {
  /** Ed25519 key, base64url */
  readonly key: string
  readonly role: Role
}

interface Known {
  readonly users: ReadonlySet<string>
  readonly administrators: ReadonlySet<string>
}

export class Login {
  readonly #sign: (message: Uint8Array) => Uint8Array
  readonly #known: Known
  readonly #clock: Clock
  readonly #challenges: Challenges
  /** by SHA-256 of the token, so that looking one up tells nothing by its time */
  readonly #tokens = new Map<string, { user: User; expires: number }>()
  readonly id: Uint8Array

  constructor(seed: Uint8Array, known: Known, clock: Clock) {
    this.#sign = signer(seed)
    this.#challenges = new Challenges(clock)
    this.#known = known
    this.#clock = clock
    this.id = signingPublicKey(seed)
  }

  /** A challenge for anybody, so that asking does not tell who is a user. `user`: base64url. */
  challenge(user: string): { nonce: string; brokerProof: string } {
    const nonce = this.#challenges.make(user)
    const brokerProof = this.#sign(brokerProofMessage(nonce, decodeBase64url(user)))
    return { nonce: encodeBase64url(nonce), brokerProof: encodeBase64url(brokerProof) }
  }

  /** Answers with a token. A challenge serves once. Fails with identity-wrong, or rate-limited for a user who logs in without end. */
  answer(request: { user: string; nonce: string; signature: string }): {
    token: string
    expiresAt: string
    role: Role
  } {
    const nonce = decodeBase64url(request.nonce)
    const message = loginMessage(nonce, this.id)
    const [signature, key] = [decodeBase64url(request.signature), decodeBase64url(request.user)]
    // The cheapest first, since strangers may ask for this as often as they like. Whether the key is a user's is looked
    // at only once its holder has signed, so that the time it takes tells nobody else.
    const proven = this.#challenges.holds(request.user, nonce) && mayVerify(message, signature, key)
    const role = proven ? this.#roleOf(request.user) : undefined
    if (!role || !verifyLogin(nonce, this.id, signature, key)) throw new MortarError('identity-wrong')
    this.#challenges.spend(request.user, nonce)
    dropExpired(this.#tokens, this.#clock.now())
    dropOldest(this.#tokens, MOST_TOKENS_PER_USER - 1, held => held.user.key === request.user)
    dropOldest(this.#tokens, MOST_TOKENS - 1)
    const token = randomBytes(32)
    const expires = this.#clock.now() + TOKEN_MS
    this.#tokens.set(hashOf(encodeBase64url(token)), { user: { key: request.user, role }, expires })
    return { token: encodeBase64url(token), expiresAt: new Date(expires).toISOString(), role }
  }

  /** The user of a token. Fails with login-expired. */
  userOf(token: string): User {
    const held = this.#tokens.get(hashOf(token))
    if (!held || held.expires <= this.#clock.now()) throw new MortarError('login-expired')
    return held.user
  }

  #roleOf(user: string): Role | undefined {
    if (this.#known.administrators.has(user)) return 'administrator'
    return this.#known.users.has(user) ? 'user' : undefined
  }
}

function hashOf(token: string): string {
  return encodeHex(sha256(new TextEncoder().encode(token)))
}

function dropExpired(map: Map<string, { expires: number }>, now: number): void {
  for (const [key, { expires }] of map) if (expires <= now) map.delete(key)
}

/** Leaves at most `most` of the entries that match; maps keep the order in which entries were added. */
function dropOldest<T>(map: Map<string, T>, most: number, matches: (entry: T) => boolean = () => true): void {
  const matching = [...map].filter(([, entry]) => matches(entry))
  for (const [key] of matching.slice(0, Math.max(0, matching.length - most))) map.delete(key)
}
