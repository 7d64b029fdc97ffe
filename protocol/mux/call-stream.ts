/** What a call needs of its stream, be it a stream of one session or a kept one, which outlives sessions. */
import type { ErrorCode } from '../core/errors.ts'
import type { Item } from './inbox.ts'

/** So many positions of a kept call were dropped before they could be sent. SPEC §8.2 */
export interface Gap {
  readonly type: 'gap'
  readonly count: number
}

export interface CallStream {
  /** Aborted when the stream was reset by either end or is lost for good; not by a normal end. */
  readonly signal: AbortSignal
  /**
   * Sends data; resolves once there is room for more. Writes are kept in order; the bytes are the stream's from here on.
   * Fails with the reset's code.
   */
  write(bytes: Uint8Array, lane?: number): Promise<void>
  /** Sends a message in order with the data written before it. Of those with one `key` that wait, only the last need go. */
  post(body: Uint8Array, key?: string): void
  /** Answers OPEN with ACCEPT of a CBOR map. */
  accept(answer: Readonly<Record<string, unknown>>): void
  /** Sends a secret in a record of its own and wipes it. */
  sendSecret(secret: Uint8Array): void
  /** Half-close: everything written so far and no more from here. May be repeated. */
  end(): void
  /** Ends both directions at once; the other end sees the code. May be repeated. */
  reset(code: ErrorCode): void
  /** Drops what is unread and what may still come, so that a sender nobody listens to is not held up. */
  discard(): void
  /** Items in order until the other end's END (returns) or a reset (throws its error). One reader only. */
  items(): AsyncGenerator<Item | Gap, void, undefined>
}
