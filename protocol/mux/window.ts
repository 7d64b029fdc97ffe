/**
 * Credit windows: a sender may have no more bytes of DATA, and no more messages, unread at the receiver of a stream than its
 * window. A window starts small and grows while its reader keeps up, out of a pool that all streams of the session share. SPEC §7.3
 */
import { readUint, writeUint } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'

/** Body of a WINDOW frame: bytes and messages that the reader is done with since the last one, and the window from now on. */
export interface Credit {
  readonly read: number
  readonly window: number
  readonly messages: number
}

export function encodeCredit({ read, window, messages }: Credit): Uint8Array {
  const body = new Uint8Array(10)
  writeUint(body, 0, 4, read)
  writeUint(body, 4, 4, window)
  writeUint(body, 8, 2, messages)
  return body
}

export function decodeCredit(body: Uint8Array): Credit {
  return { read: readUint(body, 0, 4), window: readUint(body, 4, 4), messages: readUint(body, 8, 2) }
}

/** The sender's count. Invariant: 0 ≤ unread ≤ window ≤ LIMITS.mostWindowBytes, and of messages ≤ LIMITS.windowMessages. */
export class SendWindow {
  #window: number = LIMITS.windowBytes
  #unread = 0
  #readBytes = 0
  #unreadMessages = 0
  #readMessages = 0
  #waiting: { resolve: () => void; reject: (cause: unknown) => void } | undefined
  #failure: unknown

  /** bytes, of all that were taken, that the receiver's reader is done with */
  get readBytes(): number {
    return this.#readBytes
  }

  /** messages of which the same is known */
  get readMessages(): number {
    return this.#readMessages
  }

  /** Takes the credit for a message; false when there is none. */
  takeMessageNow(): boolean {
    if (this.#unreadMessages === LIMITS.windowMessages || this.#failure !== undefined) return false
    this.#unreadMessages++
    return true
  }

  /** Takes the credit for a message, waiting for some. One taker at a time, as of take(). Fails with what fail() was given. */
  async takeMessage(): Promise<void> {
    while (!this.takeMessageNow()) {
      if (this.#failure !== undefined) throw this.#failure
      await this.#released()
    }
  }

  #released(): Promise<void> {
    return new Promise<void>((resolve, reject) => {
      this.#waiting = { resolve, reject }
    })
  }

  /** Takes 1 to `wanted` bytes of credit, waiting for some. One taker at a time. Fails with what fail() was given. */
  async take(wanted: number): Promise<number> {
    while (this.#unread === this.#window && this.#failure === undefined) await this.#released()
    if (this.#failure !== undefined) throw this.#failure
    const taken = Math.min(wanted, this.#window - this.#unread)
    this.#unread += taken
    return taken
  }

  /** Fails with protocol-violation when more was read than sent, or when the window shrinks or passes its most. */
  release({ read, window, messages }: Credit): void {
    const fits = window >= this.#window && window <= LIMITS.mostWindowBytes
    if (read > this.#unread || messages > this.#unreadMessages || !fits) {
      throw new MortarError('protocol-violation', 'window credit')
    }
    this.#unread -= read
    this.#readBytes += read
    this.#unreadMessages -= messages
    this.#readMessages += messages
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
  #messages = 0
  #closed = false
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

  /** Counts what was read; returns the credit to give back now, or null until half of the window is free. */
  consume(byteCount: number, messageCount = 0): Credit | null {
    if (this.#closed) return null
    this.#consumed += byteCount
    this.#messages += messageCount
    const full = this.#consumed >= this.#window / 2
    if (!full && this.#messages < LIMITS.windowMessages / 2) return null
    const [read, messages] = [this.#consumed, this.#messages]
    const growth = full ? this.#growth() : 0
    this.#window += growth
    this.#allowed += read + growth
    this.#consumed = this.#messages = 0
    return { read, window: this.#window, messages }
  }

  /** The stream is over: what it grew by is for others. */
  close(): void {
    if (!this.#closed) this.#pool.giveBack(this.#window - LIMITS.windowBytes)
    this.#closed = true
  }

  #growth(): number {
    const now = this.#now()
    const fast = now - this.#lastMs < FAST_MS
    this.#lastMs = now
    const wanted = Math.min(this.#window, LIMITS.mostWindowBytes - this.#window)
    return fast && wanted > 0 && this.#pool.take(wanted) ? wanted : 0
  }
}
