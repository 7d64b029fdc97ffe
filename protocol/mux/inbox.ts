/** What came in a stream and nobody has read: items in order, small data joined, messages limited. SPEC §7.2 */
import { concat } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { copySecret, wipe } from '../core/secret.ts'
import { MOST_DATA_BYTES } from './frame.ts'

/** bytes of DATA up to which unread pieces are joined */
const JOINED_BYTES = 2_048

export type Item =
  /** what ACCEPT carried */
  | { readonly type: 'accept'; readonly body: Uint8Array }
  /** the reader's own; credit goes back when it asks for the next item */
  | { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
  | { readonly type: 'message'; readonly body: Uint8Array }
  /** wiped by the reader */
  | { readonly type: 'secret'; readonly bytes: Uint8Array }

/** Counts bytes of messages and secrets that a session holds, less when negative. Fails with limit-exceeded. */
export type CountUnread = (byteCount: number) => void

export class Inbox {
  readonly #countUnread: CountUnread
  #items: Item[] = []
  /** of all items but data, which the window limits */
  #messages = 0
  #messageBytes = 0
  #wake: (() => void) | undefined

  constructor(countUnread: CountUnread) {
    this.#countUnread = countUnread
  }

  /**
   * Small pieces are copied out of their record and joined, so that a sender of single bytes costs the memory of its
   * window and not that of a record for each of them.
   */
  pushData(lane: number, bytes: Uint8Array): void {
    const last = this.#items.at(-1)
    const joins = last?.type === 'data' && last.lane === lane && last.bytes.length + bytes.length <= JOINED_BYTES
    if (joins) this.#items[this.#items.length - 1] = { type: 'data', lane, bytes: concat(last.bytes, bytes) }
    else this.#items.push({ type: 'data', lane, bytes: bytes.length < MOST_DATA_BYTES / 2 ? bytes.slice() : bytes })
    this.notify()
  }

  /** Fails with limit-exceeded when too much is unread. */
  push(type: 'accept' | 'message' | 'secret', body: Uint8Array): void {
    if (++this.#messages > LIMITS.unreadMessages) throw new MortarError('limit-exceeded', 'unread messages')
    this.#messageBytes += body.length
    this.#countUnread(body.length)
    this.#items.push(type === 'secret' ? { type, bytes: copySecret(body) } : { type, body: body.slice() })
    this.notify()
  }

  shift(): Item | undefined {
    const item = this.#items.shift()
    if (item && item.type !== 'data') {
      this.#messages--
      this.#release(item.type === 'secret' ? item.bytes.length : item.body.length)
    }
    return item
  }

  /** Resolves at the next push or notify(). One waiter at a time. */
  changed(): Promise<void> {
    return new Promise(resolve => {
      this.#wake = resolve
    })
  }

  notify(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  /** The stream is over: what is unread may still be read, but secrets, and counts no more. */
  close(): void {
    for (const item of this.#items) if (item.type === 'secret') wipe(item.bytes)
    this.#items = this.#items.filter(item => item.type !== 'secret')
    this.#countUnread(-this.#messageBytes)
    this.#messageBytes = 0
    this.notify()
  }

  /** After close() there is nothing left to give back. */
  #release(byteCount: number): void {
    const released = Math.min(byteCount, this.#messageBytes)
    this.#messageBytes -= released
    if (released > 0) this.#countUnread(-released)
  }
}
