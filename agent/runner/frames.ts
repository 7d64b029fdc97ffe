/** Frames on the socket between agent and runner: encoded here, and taken apart with a limit. See messages.ts. */
import { FRAME_BYTES } from './messages.ts'

const [MESSAGE, DATA] = [0, 1]
/** length and kind */
const HEAD_BYTES = 5
/** program, position and lane */
const DATA_HEAD_BYTES = 11

export interface DataFrame {
  readonly type: 'data'
  readonly program: number
  readonly position: number
  readonly lane: number
  readonly bytes: Uint8Array
}

export type Frame = DataFrame | { readonly type: 'message'; readonly json: string }

export function encodeMessage(message: object): Buffer {
  const json = Buffer.from(JSON.stringify(message))
  const frame = Buffer.allocUnsafe(HEAD_BYTES + json.length)
  frame.writeUInt32BE(1 + json.length, 0)
  frame[4] = MESSAGE
  json.copy(frame, HEAD_BYTES)
  return frame
}

/** The bytes are copied. */
export function encodeData({ program, position, lane, bytes }: Omit<DataFrame, 'type'>): Buffer {
  const frame = Buffer.allocUnsafe(HEAD_BYTES + DATA_HEAD_BYTES + bytes.length)
  frame.writeUInt32BE(1 + DATA_HEAD_BYTES + bytes.length, 0)
  frame[4] = DATA
  frame.writeUInt32BE(program, 5)
  frame.writeUIntBE(position, 9, 6)
  frame[15] = lane
  frame.set(bytes, HEAD_BYTES + DATA_HEAD_BYTES)
  return frame
}

/** Takes what comes in apart. */
export class FrameReader {
  #chunks: Buffer[] = []
  #byteCount = 0

  /** The frames that are complete now; their bytes are the caller's. Throws for one that is none. */
  push(chunk: Uint8Array): Frame[] {
    this.#chunks.push(Buffer.from(chunk.buffer, chunk.byteOffset, chunk.length))
    this.#byteCount += chunk.length
    const frames: Frame[] = []
    for (let frame = this.#shift(); frame; frame = this.#shift()) frames.push(frame)
    return frames
  }

  #shift(): Frame | undefined {
    if (this.#byteCount < HEAD_BYTES) return undefined
    const length = this.#peek().readUInt32BE(0)
    if (length < 1 || length > FRAME_BYTES) throw new Error(`a frame of ${length} bytes`)
    if (this.#byteCount < 4 + length) return undefined
    const [only] = this.#chunks
    const all = only && this.#chunks.length === 1 ? only : Buffer.concat(this.#chunks)
    const rest = all.subarray(4 + length)
    this.#chunks = rest.length > 0 ? [rest] : []
    this.#byteCount = rest.length
    return parse(all[4], all.subarray(HEAD_BYTES, 4 + length))
  }

  /** The first bytes in one piece. */
  #peek(): Buffer {
    const [first] = this.#chunks
    if (first && first.length >= HEAD_BYTES) return first
    const all = Buffer.concat(this.#chunks)
    this.#chunks = [all]
    return all
  }
}

function parse(kind: number | undefined, body: Buffer): Frame {
  if (kind === MESSAGE) return { type: 'message', json: body.toString('utf8') }
  if (kind !== DATA || body.length < DATA_HEAD_BYTES) throw new Error(`a frame of kind ${kind}`)
  return {
    type: 'data',
    program: body.readUInt32BE(0),
    position: body.readUIntBE(4, 6),
    lane: body[10] as number,
    // of its own: the rest of what it came with may be large
    bytes: new Uint8Array(body.subarray(DATA_HEAD_BYTES)),
  }
}
