/** What came in a stream and nobody has read: items in order, small data joined, messages limited. SPEC §7.2 */
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { copySecret, wipe } from '../core/secret.ts'
import { MOST_DATA_BYTES } from './frame.ts'

/** pieces of DATA below this size are copied out of their record into runs; most of a run */
const SMALL_BYTES = 2_048
const RUN_BYTES = 65_536

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

/** Small pieces of DATA behind each other, of either lane: a piece of one byte costs a few, not an object and its buffer. */
class Run {
  readonly type = 'run'
  #bytes = new Uint8Array(SMALL_BYTES)
  #start = 0
  #end = 0
  /** for each piece twice its end, and its lane */
  #pieces: number[] = []
  #taken = 0

  /** False when the run is full. */
  push(lane: number, bytes: Uint8Array): boolean {
    const end = this.#end + bytes.length
    if (end > RUN_BYTES) return false
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(2 * end)
      larger.set(this.#bytes)
      this.#bytes = larger
    }
    this.#bytes.set(bytes, this.#end)
    this.#end = end
    const joins = this.#pieces.length > this.#taken && ((this.#pieces.at(-1) as number) & 1) === lane
    if (joins) this.#pieces.pop()
    this.#pieces.push(end * 2 + lane)
    return true
  }

  /** The next piece, in a buffer of its own. */
  shift(): Item | undefined {
    const piece = this.#pieces[this.#taken]
    if (piece === undefined) return undefined
    this.#taken++
    const bytes = this.#bytes.slice(this.#start, piece >> 1)
    this.#start = piece >> 1
    return { type: 'data', lane: piece & 1, bytes }
  }
}

export class Inbox {
  readonly #countUnread: CountUnread
  #items: (Item | Run)[] = []
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
    if (bytes.length < SMALL_BYTES) this.#pushSmall(lane, bytes)
    else this.#items.push({ type: 'data', lane, bytes: bytes.length < MOST_DATA_BYTES / 2 ? bytes.slice() : bytes })
    this.notify()
  }

  #pushSmall(lane: number, bytes: Uint8Array): void {
    const last = this.#items.at(-1)
    if (last?.type === 'run' && last.push(lane, bytes)) return
    const run = new Run()
    run.push(lane, bytes)
    this.#items.push(run)
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
    const [first] = this.#items
    if (first?.type === 'run') {
      const piece = first.shift()
      if (piece) return piece
      this.#items.shift()
      return this.shift()
    }
    this.#items.shift()
    const item = first
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
