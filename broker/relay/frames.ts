/**
 * WebSocket frames (RFC 6455 section 5) as the relay sees them: only headers are looked at. A chunk of masked frames from
 * a client becomes a chunk of unmasked frames for the other, in place, whatever the borders of the chunks.
 */
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import {
  CONTROL,
  FIN,
  LONG_FORM,
  MASKED,
  MOST_CONTROL_BYTES,
  OPCODE,
  RESERVED,
  SHORT_FORM,
} from '../../protocol/core/websocket-frames.ts'

const LONGEST_HEADER_BYTES = 14

export interface FrameSink {
  /** data frames, ready to be sent on: headers and payloads */
  forward(bytes: Buffer): void
  /** a whole control frame, its payload unmasked */
  control(opcode: number, payload: Buffer): void
  /** before each data frame; what is sent after flush() goes before that frame */
  between?(flush: () => void): void
}

/** Reads one direction. Throws protocol-violation or limit-exceeded; the pair must end then. */
export class FrameReader {
  readonly #sink: FrameSink
  readonly #header = Buffer.alloc(LONGEST_HEADER_BYTES)
  #headerBytes = 0
  readonly #mask = Buffer.alloc(4)
  #masked = false
  #maskOffset = 0
  #left = 0
  #opcode = 0
  /** bytes of the message so far, over its fragments; -1 between messages */
  #messageBytes = -1
  #control: Buffer[] = []

  constructor(sink: FrameSink) {
    this.#sink = sink
  }

  /** Whether the header of a data frame was sent on and not yet all of its payload. */
  get insideFrame(): boolean {
    return this.#left > 0 && !this.#isControl()
  }

  /** Takes the next bytes from the socket, which are then ours to change. */
  push(chunk: Buffer): void {
    // chunk[from, packed) goes on. Headers shrink by the mask, so `packed` never passes `read`.
    let [read, packed, from] = [0, 0, 0]
    const flush = () => {
      if (packed > from) this.#sink.forward(chunk.subarray(from, packed))
      from = packed = read
    }
    try {
      while (read < chunk.length) {
        if (this.#left === 0) {
          const begunEarlier = this.#headerBytes > 0
          read += this.#readHeader(chunk, read)
          if (this.#headerBytes > 0) break
          if (this.#isControl()) {
            flush()
            if (this.#left === 0) this.#endControl()
          } else {
            this.#sink.between?.(flush)
            const header = this.#outgoingHeader()
            if (begunEarlier) {
              // there may be no room for it before the payload
              this.#sink.forward(header)
              from = packed = read
            } else {
              // right before the payload when nothing waits, which spares moving the payload
              if (packed === from) from = packed = read - header.length
              packed += header.copy(chunk, packed)
            }
          }
          continue
        }
        const length = Math.min(this.#left, chunk.length - read)
        this.#unmask(chunk, read, length)
        if (this.#isControl()) this.#control.push(Buffer.from(chunk.subarray(read, read + length)))
        else {
          if (packed !== read) chunk.copy(chunk, packed, read, read + length)
          packed += length
        }
        read += length
        this.#left -= length
        if (this.#isControl()) {
          from = packed = read
          if (this.#left === 0) this.#endControl()
        }
      }
    } finally {
      // also before an error is told: whole frames go on whole
      flush()
    }
  }

  #isControl(): boolean {
    return (this.#opcode & CONTROL) !== 0
  }

  /** Collects header bytes; returns how many it took. The header is whole when #headerBytes is 0 again. */
  #readHeader(chunk: Buffer, offset: number): number {
    let used = 0
    for (;;) {
      const needed = this.#headerBytes < 2 ? 2 : headerLength(this.#header)
      if (this.#headerBytes === needed) break
      if (offset + used >= chunk.length) return used
      this.#header[this.#headerBytes++] = chunk[offset + used++] as number
    }
    this.#parseHeader()
    this.#headerBytes = 0
    return used
  }

  #parseHeader(): void {
    const [first, second] = [this.#header[0] as number, this.#header[1] as number]
    const fin = (first & FIN) !== 0
    this.#opcode = first & 0x0f
    this.#masked = (second & MASKED) !== 0
    const short = second & 0x7f
    const length =
      short < SHORT_FORM
        ? short
        : short === SHORT_FORM
          ? this.#header.readUInt16BE(2)
          : Number(this.#header.readBigUInt64BE(2))
    if ((first & RESERVED) !== 0) throw new MortarError('protocol-violation', 'reserved bits')
    // RFC 6455 section 5.2: the shortest form that can say the length
    if (length < (short === LONG_FORM ? 65_536 : short)) throw new MortarError('protocol-violation', 'length')
    // a client must mask (RFC 6455 section 5.1)
    if (!this.#masked) throw new MortarError('protocol-violation', 'unmasked frame')
    if (this.#isControl()) {
      if (!fin || length > MOST_CONTROL_BYTES || this.#opcode > OPCODE.pong) {
        throw new MortarError('protocol-violation', 'control frame')
      }
    } else this.#countData(fin, length)
    this.#left = length
    this.#maskOffset = 0
    this.#header.copy(this.#mask, 0, headerLength(this.#header) - 4, headerLength(this.#header))
  }

  #countData(fin: boolean, length: number): void {
    const begins = this.#opcode === OPCODE.binary
    if (!begins && this.#opcode !== OPCODE.continuation)
      throw new MortarError('protocol-violation', 'not a binary message')
    if (begins !== this.#messageBytes < 0) throw new MortarError('protocol-violation', 'fragments out of order')
    const total = Math.max(0, this.#messageBytes) + length
    if (total > LIMITS.packetBytes) throw new MortarError('limit-exceeded', `message of ${total} bytes`)
    // fragments without bytes would be free of the limit
    if (!fin && length === 0) throw new MortarError('protocol-violation', 'empty fragment')
    this.#messageBytes = fin ? -1 : total
  }

  /** The header that goes on, without mask. */
  #outgoingHeader(): Buffer {
    const header = Buffer.from(this.#header.subarray(0, headerLength(this.#header) - 4))
    header[1] = (header[1] as number) & 0x7f
    return header
  }

  #unmask(chunk: Buffer, offset: number, length: number): void {
    const mask = this.#mask
    if (mask.readUInt32BE(0) === 0) return
    for (let i = 0; i < length; i++) {
      chunk[offset + i] = (chunk[offset + i] as number) ^ (mask[(this.#maskOffset + i) & 3] as number)
    }
    this.#maskOffset = (this.#maskOffset + length) & 3
  }

  #endControl(): void {
    const payload = Buffer.concat(this.#control)
    this.#control = []
    this.#sink.control(this.#opcode, payload)
  }
}

function headerLength(header: Buffer): number {
  const second = header[1] as number
  const short = second & 0x7f
  return 2 + (short === SHORT_FORM ? 2 : short === LONG_FORM ? 8 : 0) + ((second & MASKED) !== 0 ? 4 : 0)
}

/** A control frame from the server, unmasked. `payload`: at most 125 bytes. */
export function controlFrame(opcode: number, payload: Uint8Array = Buffer.alloc(0)): Buffer {
  return Buffer.concat([Buffer.of(FIN | opcode, payload.length), payload])
}

/** A close frame's payload: code and reason (RFC 6455 section 5.5.1). */
export function closePayload(code: number, reason: string): Buffer {
  const head = Buffer.alloc(2)
  head.writeUInt16BE(code)
  return Buffer.concat([head, Buffer.from(reason)])
}
