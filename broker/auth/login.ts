/** Logins: a user signs the broker's challenge and gets a token for an hour. Nothing of it is stored. SPEC §3.1 */
import { randomBytes } from 'node:crypto'
import { signBrokerProof, verifyLogin } from '../../protocol/control/login.ts'
import { decodeBase64url, encodeBase64url, encodeHex } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { sha256, signingPublicKey } from '../../protocol/core/signing.ts'

const CHALLENGE_MS = 60_000
const TOKEN_MS = 3_600_000
/** outstanding at once; more are refused, the oldest are dropped for nobody */
const MOST_CHALLENGES = 1_000
const MOST_TOKENS = 10_000

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
  readonly #seed: Uint8Array
  readonly #known: Known
  readonly #clock: Clock
  readonly #challenges = new Map<string, { user: string; expires: number }>()
  /** by SHA-256 of the token, so that looking one up tells nothing by its time */
  readonly #tokens = new Map<string, { user: User; expires: number }>()
  readonly id: Uint8Array

  constructor(seed: Uint8Array, known: Known, clock: Clock) {
    this.#seed = seed
    this.#known = known
    this.#clock = clock
    this.id = signingPublicKey(seed)
  }

  /** A challenge for anybody, so that asking does not tell who is a user. `user`: base64url. Fails with rate-limited. */
  challenge(user: string): { nonce: string; brokerProof: string } {
    dropExpired(this.#challenges, this.#clock.now())
    if (this.#challenges.size >= MOST_CHALLENGES) throw new MortarError('rate-limited', 'logins')
    const nonce = randomBytes(32)
    const textual = encodeBase64url(nonce)
    this.#challenges.set(textual, { user, expires: this.#clock.now() + CHALLENGE_MS })
    return { nonce: textual, brokerProof: encodeBase64url(signBrokerProof(nonce, decodeBase64url(user), this.#seed)) }
  }

  /** Answers with a token. A challenge serves once. Fails with identity-wrong. */
  answer(request: { user: string; nonce: string; signature: string }): {
    token: string
    expiresAt: string
    role: Role
  } {
    const challenge = this.#challenges.get(request.nonce)
    this.#challenges.delete(request.nonce)
    const role = this.#roleOf(request.user)
    const proven =
      challenge?.user === request.user &&
      challenge.expires > this.#clock.now() &&
      verifyLogin(
        decodeBase64url(request.nonce),
        this.id,
        decodeBase64url(request.signature),
        decodeBase64url(request.user),
      )
    if (!proven || !role) throw new MortarError('identity-wrong')
    dropExpired(this.#tokens, this.#clock.now())
    if (this.#tokens.size >= MOST_TOKENS) throw new MortarError('rate-limited', 'logins')
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
