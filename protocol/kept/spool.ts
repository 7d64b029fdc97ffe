/**
 * What one end has sent, or will send, in a kept call, and the other end may not have read: numbered, so that it can be
 * sent again. Each byte of DATA counts one, each MESSAGE counts one. SPEC §8.2
 */
import { concat } from '../core/bytes.ts'

/** bytes up to which pieces of data are joined */
const JOINED_BYTES = 2_048

export type Piece =
  | { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
  | { readonly type: 'message'; readonly body: Uint8Array; readonly key: string | undefined }

interface Entry {
  /** position of its first byte, or of the message */
  readonly at: number
  /** bytes of DATA before it */
  readonly data: number
  readonly piece: Piece
}

const countOf = (piece: Piece) => (piece.type === 'data' ? piece.bytes.length : 1)
const bytesOf = (piece: Piece) => (piece.type === 'data' ? piece.bytes : piece.body).length

export class Spool {
  #entries: Entry[] = []
  #end = 0
  #dataEnd = 0
  #bytes = 0

  /** position of the first thing that is held */
  get start(): number {
    return this.#entries[0]?.at ?? this.#end
  }

  /** position behind the last */
  get end(): number {
    return this.#end
  }

  /** bytes that are held */
  get bytes(): number {
    return this.#bytes
  }

  /** Adds data; the bytes are the spool's from here on. */
  pushData(lane: number, bytes: Uint8Array): void {
    const last = this.#entries.at(-1)
    const before = last?.piece
    if (last && before?.type === 'data' && before.lane === lane && before.bytes.length + bytes.length <= JOINED_BYTES) {
      const piece = { type: 'data', lane, bytes: concat(before.bytes, bytes) } as const
      this.#entries[this.#entries.length - 1] = { ...last, piece }
    } else this.#push({ type: 'data', lane, bytes })
    this.#end += bytes.length
    this.#dataEnd += bytes.length
    this.#bytes += bytes.length
  }

  /** Adds a message. Of those with the same key only the last matters while none of them is sent, from `unsent` on. */
  pushMessage(body: Uint8Array, key: string | undefined, unsent: number): void {
    const piece: Piece = { type: 'message', body, key }
    const same = key === undefined ? -1 : this.#entries.findLastIndex(entry => isMessage(entry, key))
    const earlier = this.#entries[same]
    if (earlier && earlier.at >= unsent) {
      this.#entries[same] = { ...earlier, piece }
      this.#bytes += body.length - bytesOf(earlier.piece)
      return
    }
    this.#push(piece)
    this.#end++
    this.#bytes += body.length
  }

  #push(piece: Piece): void {
    this.#entries.push({ at: this.#end, data: this.#dataEnd, piece })
  }

  /** The piece at a position, which start ≤ position ≤ end holds for, from there on; undefined at the end. */
  at(position: number): Piece | undefined {
    const entry = this.#entryOf(position)
    if (!entry) return undefined
    const { piece } = entry
    return piece.type === 'data' ? { ...piece, bytes: piece.bytes.subarray(position - entry.at) } : piece
  }

  /** How many messages there are from a position on. */
  messagesFrom(position: number): number {
    return this.#entries.filter(({ at, piece }) => at >= position && piece.type === 'message').length
  }

  /** Bytes of DATA before a position. */
  dataBefore(position: number): number {
    const entry = this.#entryOf(position)
    return entry ? entry.data + position - entry.at : this.#dataEnd
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
    if (first && first.at < position && first.piece.type === 'data') this.#cut(first, position - first.at)
  }

  /** Forgets what was read when so many bytes of DATA were: they, and what stood before the last of them. */
  releaseData(dataBytes: number): void {
    this.#release(({ data, piece }) =>
      piece.type === 'data' ? data + piece.bytes.length <= dataBytes : data < dataBytes,
    )
  }

  /** Forgets the oldest until no more than so many bytes are held. */
  dropTo(byteCount: number): void {
    this.#release(({ piece }) => this.#bytes - byteCount >= bytesOf(piece))
    const [first] = this.#entries
    const over = this.#bytes - byteCount
    if (first && over > 0 && first.piece.type === 'data') this.#cut(first, over)
  }

  #release(done: (entry: Entry) => boolean): void {
    let count = 0
    for (const entry of this.#entries) {
      if (!done(entry)) break
      this.#bytes -= bytesOf(entry.piece)
      count++
    }
    if (count > 0) this.#entries.splice(0, count)
  }

  #cut({ at, data, piece }: Entry, byteCount: number): void {
    if (piece.type !== 'data') return
    this.#bytes -= byteCount
    const rest = { ...piece, bytes: piece.bytes.subarray(byteCount) }
    this.#entries[0] = { at: at + byteCount, data: data + byteCount, piece: rest }
  }
}

function isMessage({ piece }: Entry, key: string): boolean {
  return piece.type === 'message' && piece.key === key
}
