/**
 * Small pieces of DATA behind each other, of either lane, for the spool: a byte costs two, however many pieces brought
 * them, so that a program that writes single bytes costs what one that writes blocks does. SPEC §8.2
 */

const FIRST_BYTES = 512
/** bytes of a run at most */
export const RUN_BYTES = 16_384

export class Run {
  readonly type = 'run'
  #bytes: Uint8Array = new Uint8Array(FIRST_BYTES)
  /** the lane of each byte */
  #lanes: Uint8Array = new Uint8Array(FIRST_BYTES)
  #start = 0
  #end = 0

  get length(): number {
    return this.#end - this.#start
  }

  /** Copies a piece in; false when there is no room. */
  push(lane: number, bytes: Uint8Array): boolean {
    const end = this.#end + bytes.length
    if (end > RUN_BYTES) return false
    if (end > this.#bytes.length) {
      const capacity = Math.min(RUN_BYTES, 2 * end)
      this.#bytes = grown(this.#bytes, capacity)
      this.#lanes = grown(this.#lanes, capacity)
    }
    this.#bytes.set(bytes, this.#end)
    this.#lanes.fill(lane, this.#end, end)
    this.#end = end
    return true
  }

  /** What follows an offset and is of one lane. */
  from(offset: number): { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array } {
    const start = this.#start + offset
    const lane = this.#lanes[start] as number
    const other = this.#lanes.subarray(0, this.#end).indexOf(1 - lane, start)
    return { type: 'data', lane, bytes: this.#bytes.subarray(start, other < 0 ? this.#end : other) }
  }

  /** Forgets the first bytes. */
  cut(byteCount: number): void {
    this.#start += byteCount
  }
}

function grown(bytes: Uint8Array, capacity: number): Uint8Array {
  const larger = new Uint8Array(capacity)
  larger.set(bytes)
  return larger
}
