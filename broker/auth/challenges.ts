/**
 * Challenges of logins that nobody has to remember: the nonce carries when it ends and a code over that and the user, made
 * with a key of this process. Whoever asks for many takes nothing from anybody. What was answered is remembered until it
 * would end, so that it serves once; only a user with a proper signature gets that far. SPEC §3.1
 */
import { createHmac, randomBytes, timingSafeEqual } from 'node:crypto'
import { encodeHex } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'

const CHALLENGE_MS = 60_000
/** bytes of a nonce: ms since 1970, what makes it unlike any other, the code */
const TIME_BYTES = 6
const RANDOM_BYTES = 10
const CODE_BYTES = 16
/** challenges that one user may have answered in the last minute */
const MOST_SPENT_EACH = 600

export class Challenges {
  readonly #key = randomBytes(32)
  readonly #clock: Clock
  /** by user: hex of the nonce, and when it ends */
  readonly #spent = new Map<string, Map<string, number>>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** A nonce of 32 bytes for a user, base64url, whoever that is. */
  make(user: string): Uint8Array {
    const open = Buffer.alloc(TIME_BYTES + RANDOM_BYTES)
    open.writeUIntBE(this.#clock.now() + CHALLENGE_MS, 0, TIME_BYTES)
    randomBytes(RANDOM_BYTES).copy(open, TIME_BYTES)
    return new Uint8Array(Buffer.concat([open, this.#code(user, open)]))
  }

  /** Whether the nonce is one that was made for this user and has neither ended nor been spent. */
  holds(user: string, nonce: Uint8Array): boolean {
    const open = nonce.subarray(0, TIME_BYTES + RANDOM_BYTES)
    const code = nonce.subarray(TIME_BYTES + RANDOM_BYTES)
    return (
      code.length === CODE_BYTES &&
      timingSafeEqual(code, this.#code(user, open)) &&
      endOf(nonce) > this.#clock.now() &&
      !this.#spent.get(user)?.has(encodeHex(nonce))
    )
  }

  /** Remembers that the user answered it. Fails with rate-limited when this user answered too many. */
  spend(user: string, nonce: Uint8Array): void {
    const now = this.#clock.now()
    for (const [each, spent] of this.#spent) {
      for (const [known, end] of spent) if (end <= now) spent.delete(known)
      if (spent.size === 0) this.#spent.delete(each)
    }
    const spent = this.#spent.get(user) ?? new Map<string, number>()
    if (spent.size >= MOST_SPENT_EACH) throw new MortarError('rate-limited', `${MOST_SPENT_EACH} logins in a minute`)
    this.#spent.set(user, spent.set(encodeHex(nonce), endOf(nonce)))
  }

  #code(user: string, open: Uint8Array): Buffer {
    return createHmac('sha256', this.#key).update(open).update(user).digest().subarray(0, CODE_BYTES)
  }
}

function endOf(nonce: Uint8Array): number {
  return Buffer.from(nonce.buffer, nonce.byteOffset, nonce.length).readUIntBE(0, TIME_BYTES)
}
