/**
 * What one end has sent, or will send, in a kept call, and the other end may not have read: numbered, so that it can be
 * sent again. Each byte of DATA counts one, each MESSAGE counts one. SPEC §8.2
 */
import { LIMITS } from '../core/limits.ts'
import { RUN_BYTES, Run } from './run.ts'

/** what an entry costs beside its bytes */
const ENTRY_BYTES = 512

export type Piece =
  | { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
  | { readonly type: 'message'; readonly body: Uint8Array; readonly key: string | undefined }

interface Entry {
  /** position of its first byte, or of the message */
  at: number
  /** bytes of DATA, and messages, before it */
  data: number
  messages: number
  piece: Piece | Run
}

const bytesOf = (piece: Piece | Run) =>
  piece.type === 'data' ? piece.bytes.length : piece.type === 'run' ? piece.length : 0
/** positions that a piece takes */
const countOf = (piece: Piece | Run) => (piece.type === 'message' ? 1 : bytesOf(piece))
const costOf = (piece: Piece | Run) => ENTRY_BYTES + (piece.type === 'message' ? piece.body.length : bytesOf(piece))

export class Spool {
  #entries: Entry[] = []
  #end = 0
  #dataEnd = 0
  #messagesEnd = 0
  #cost = 0

  /** position of the first thing that is held */
  get start(): number {
    return this.#entries[0]?.at ?? this.#end
  }

  /** position behind the last */
  get end(): number {
    return this.#end
  }

  /** bytes of memory that are held, about */
  get bytes(): number {
    return this.#cost
  }

  /** Adds data; the bytes are the spool's from here on. */
  pushData(lane: number, bytes: Uint8Array): void {
    if (bytes.length > RUN_BYTES) this.#push({ type: 'data', lane, bytes })
    else this.#pushSmall(lane, bytes)
    this.#end += bytes.length
    this.#dataEnd += bytes.length
  }

  /** Adds a message. Of those with the same key that stand from `unsent` on only the last stays. */
  pushMessage(body: Uint8Array, key: string | undefined, unsent: number): void {
    if (key !== undefined) this.#remove(key, unsent)
    this.#push({ type: 'message', body, key })
    this.#end++
    this.#messagesEnd++
  }

  #pushSmall(lane: number, bytes: Uint8Array): void {
    const last = this.#entries.at(-1)?.piece
    if (last?.type !== 'run' || !last.push(lane, bytes)) {
      const run = new Run()
      this.#push(run)
      run.push(lane, bytes)
    }
    this.#cost += bytes.length
  }

  #push(piece: Piece | Run): void {
    this.#entries.push({ at: this.#end, data: this.#dataEnd, messages: this.#messagesEnd, piece })
    this.#cost += costOf(piece)
  }

  #remove(key: string, unsent: number): void {
    const index = this.#entries.findLastIndex(({ piece }) => piece.type === 'message' && piece.key === key)
    const entry = this.#entries[index]
    if (!entry || entry.at < unsent) return
    this.#entries.splice(index, 1)
    this.#cost -= costOf(entry.piece)
    for (const later of this.#entries.slice(index)) {
      later.at--
      later.messages--
    }
    this.#end--
    this.#messagesEnd--
  }

  /** The piece at a position, which start ≤ position ≤ end holds for, from there on; undefined at the end. */
  at(position: number): Piece | undefined {
    const entry = this.#entryOf(position)
    if (!entry) return undefined
    const { piece } = entry
    if (piece.type === 'run') return piece.from(position - entry.at)
    return piece.type === 'data' ? { ...piece, bytes: piece.bytes.subarray(position - entry.at) } : piece
  }

  /** How many messages there are from a position on. */
  messagesFrom(position: number): number {
    return this.#messagesEnd - this.before(position).messages
  }

  /** Bytes of DATA, and messages, before a position. */
  before(position: number): { data: number; messages: number } {
    const entry = this.#entryOf(position)
    if (!entry) return { data: this.#dataEnd, messages: this.#messagesEnd }
    // within a message there is no position
    return { data: entry.data + position - entry.at, messages: entry.messages }
  }

  #entryOf(position: number): Entry | undefined {
    let [low, high] = [0, this.#entries.length]
    while (low < high) {
      const middle = (low + high) >> 1
      const { at, piece } = this.#entries[middle] as Entry
      if (at + countOf(piece) > position) high = middle
      else low = middle + 1
    }
    return this.#entries[low]
  }

  /** Forgets what lies before a position. */
  releaseTo(position: number): void {
    this.#release(({ at, piece }) => position - at >= countOf(piece))
    const [first] = this.#entries
    if (first && first.at < position) this.#cut(first, position - first.at)
  }

  /** Forgets what was read when so many bytes of DATA and so many messages were, and with it what stood before. */
  releaseRead(data: number, messages: number): void {
    let [count, read] = [0, 0]
    for (const entry of this.#entries) {
      count++
      const { piece } = entry
      const isRead = piece.type === 'message' ? entry.messages < messages : entry.data + bytesOf(piece) <= data
      if (isRead) read = count
      else if (entry.data >= data && entry.messages >= messages) break
    }
    this.#release(() => read-- > 0)
  }

  /** Forgets the oldest when more is held than LIMITS.spoolBytes, and then a sixteenth of it, so that it is not done for each byte. */
  bound(): void {
    if (this.#cost <= LIMITS.spoolBytes) return
    this.#release(() => this.#cost > (LIMITS.spoolBytes / 16) * 15)
  }

  #release(done: (entry: Entry) => boolean): void {
    let count = 0
    for (const entry of this.#entries) {
      if (!done(entry)) break
      this.#cost -= costOf(entry.piece)
      count++
    }
    if (count > 0) this.#entries.splice(0, count)
  }

  #cut(first: Entry, byteCount: number): void {
    const { piece } = first
    if (piece.type === 'message') return
    this.#cost -= byteCount
    first.at += byteCount
    first.data += byteCount
    if (piece.type === 'run') piece.cut(byteCount)
    else first.piece = { ...piece, bytes: piece.bytes.subarray(byteCount) }
  }
}
