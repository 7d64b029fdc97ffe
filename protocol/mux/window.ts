/** Credit windows: a sender may have at most LIMITS.windowBytes unread at the receiver of a stream. SPEC §7.3 */
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'

/** The sender's count. Invariant: 0 ≤ credit ≤ LIMITS.windowBytes. */
export class SendWindow {
  #credit: number = LIMITS.windowBytes
  #waiting: { resolve: () => void; reject: (cause: unknown) => void } | undefined
  #failure: unknown

  /** Takes 1 to `wanted` bytes of credit, waiting for some. One taker at a time. Fails with what fail() was given. */
  async take(wanted: number): Promise<number> {
    while (this.#credit === 0 && this.#failure === undefined) {
      await new Promise<void>((resolve, reject) => {
        this.#waiting = { resolve, reject }
      })
    }
    if (this.#failure !== undefined) throw this.#failure
    const taken = Math.min(wanted, this.#credit)
    this.#credit -= taken
    return taken
  }

  /** Adds credit that the receiver gave back. Fails with protocol-violation beyond the window. */
  release(byteCount: number): void {
    if (this.#credit + byteCount > LIMITS.windowBytes) throw new MortarError('protocol-violation', 'window credit')
    this.#credit += byteCount
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.resolve()
  }

  fail(cause: unknown): void {
    this.#failure ??= cause
    const waiting = this.#waiting
    this.#waiting = undefined
    waiting?.reject(this.#failure)
  }
}

/** The receiver's count: what may still come, and what was read but not yet given back. */
export class ReceiveWindow {
  #allowed: number = LIMITS.windowBytes
  #consumed = 0

  /** Counts what came. Fails with protocol-violation when the sender had no credit for it. */
  receive(byteCount: number): void {
    if (byteCount > this.#allowed) throw new MortarError('protocol-violation', 'window overrun')
    this.#allowed -= byteCount
  }

  /** Counts what was read; returns the credit to give back now, or 0 until half the window is free. */
  consume(byteCount: number): number {
    this.#consumed += byteCount
    if (this.#consumed < LIMITS.windowBytes / 2) return 0
    const credit = this.#consumed
    this.#consumed = 0
    this.#allowed += credit
    return credit
  }
}
