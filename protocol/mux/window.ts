/**
 * Credit windows: a sender may have no more bytes of DATA unread at the receiver of a stream than its window. A window
 * starts small and grows while its reader keeps up, out of a pool that all streams of the session share. SPEC §7.3
 */
import { readUint, writeUint } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'

/** Body of a WINDOW frame: bytes that the reader is done with since the last one, and the window from now on. */
export interface Credit {
  readonly read: number
  readonly window: number
}

export function encodeCredit({ read, window }: Credit): Uint8Array {
  const body = new Uint8Array(8)
  writeUint(body, 0, 4, read)
  writeUint(body, 4, 4, window)
  return body
}

export function decodeCredit(body: Uint8Array): Credit {
  return { read: readUint(body, 0, 4), window: readUint(body, 4, 4) }
}

/** The sender's count. Invariant: 0 ≤ unread ≤ window ≤ LIMITS.mostWindowBytes. */
export class SendWindow {
  #window: number = LIMITS.windowBytes
  #unread = 0
  #readBytes = 0
  #waiting: { resolve: () => void; reject: (cause: unknown) => void } | undefined
  #failure: unknown

  /** bytes, of all that were taken, that the receiver's reader is done with */
  get readBytes(): number {
    return this.#readBytes
  }

  /** Takes 1 to `wanted` bytes of credit, waiting for some. One taker at a time. Fails with what fail() was given. */
  async take(wanted: number): Promise<number> {
    while (this.#unread === this.#window && this.#failure === undefined) {
      await new Promise<void>((resolve, reject) => {
        this.#waiting = { resolve, reject }
      })
    }
    if (this.#failure !== undefined) throw this.#failure
    const taken = Math.min(wanted, this.#window - this.#unread)
    this.#unread += taken
    return taken
  }

  /** Fails with protocol-violation when more was read than sent, or when the window shrinks or passes its most. */
  release({ read, window }: Credit): void {
    if (read > this.#unread || window < this.#window || window > LIMITS.mostWindowBytes) {
      throw new MortarError('protocol-violation', 'window credit')
    }
    this.#unread -= read
    this.#readBytes += read
    this.#window = window
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

/** What the windows of a session may grow by in all; what is left after every stream it may have got its first window. */
export class WindowPool {
  #left: number = LIMITS.sessionWindowBytes - LIMITS.streams * LIMITS.windowBytes

  /** False when there is not so much left. */
  take(byteCount: number): boolean {
    if (byteCount > this.#left) return false
    this.#left -= byteCount
    return true
  }

  giveBack(byteCount: number): void {
    this.#left += byteCount
  }
}

/** ms in which half a window must be read for it to grow: a reader that fast waits for the sender's credit to travel */
const FAST_MS = 500

/** The receiver's count: what may still come, and what was read but not yet given back. */
export class ReceiveWindow {
  readonly #pool: WindowPool
  readonly #now: () => number
  #window: number = LIMITS.windowBytes
  #allowed: number = LIMITS.windowBytes
  #consumed = 0
  #lastMs: number

  /** `now`: ms of a clock */
  constructor(pool: WindowPool, now: () => number) {
    this.#pool = pool
    this.#now = now
    this.#lastMs = now()
  }

  /** Counts what came; false when the sender had no credit for it. */
  receive(byteCount: number): boolean {
    if (byteCount > this.#allowed) return false
    this.#allowed -= byteCount
    return true
  }

  /** Counts what was read; returns the credit to give back now, or null until half the window is free. */
  consume(byteCount: number): Credit | null {
    this.#consumed += byteCount
    if (this.#consumed < this.#window / 2) return null
    const read = this.#consumed
    const growth = this.#growth()
    this.#window += growth
    this.#allowed += read + growth
    this.#consumed = 0
    return { read, window: this.#window }
  }

  /** The stream is over: what it grew by is for others. */
  close(): void {
    this.#pool.giveBack(this.#window - LIMITS.windowBytes)
    this.#window = LIMITS.windowBytes
  }

  #growth(): number {
    const now = this.#now()
    const fast = now - this.#lastMs < FAST_MS
    this.#lastMs = now
    const wanted = Math.min(this.#window, LIMITS.mostWindowBytes - this.#window)
    return fast && wanted > 0 && this.#pool.take(wanted) ? wanted : 0
  }
}
