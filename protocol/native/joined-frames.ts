/**
 * WebSocket frames (RFC 6455 section 5) at an end of a joined pair that runs on Node: what the broker may send is read
 * strictly and cut into packets, what goes to it gets its header. Bytes in, bytes out; no sockets. SPEC §4
 */
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import {
  CONTROL,
  FIN,
  LONG_FORM,
  MASKED,
  MOST_CONTROL_BYTES,
  OPCODE,
  RESERVED,
  SHORT_FORM,
} from '../core/websocket-frames.ts'

/** no status was given (RFC 6455 section 7.4.1); never on the wire */
export const NO_STATUS = 1005
/** buffers from this size on are not zeroed first: they are filled whole before anyone sees them */
const UNZEROED_BYTES = 4_096

const utf8 = new TextDecoder('utf-8', { fatal: true })

export interface PacketSink {
  /** a whole message in an array of its own */
  packet(bytes: Uint8Array): void
  /** `payload`: at most 125 bytes, the sink's */
  ping(payload: Uint8Array): void
  /** the last that comes; NO_STATUS for a close without a code */
  close(code: number, reason: string): void
}

/** Reads what a server sends. After close() was told, or a failure thrown, it looks at nothing more. */
export class FrameParser {
  readonly #sink: PacketSink
  readonly #header = new Uint8Array(4)
  #headerBytes = 0
  #opcode = 0
  #fin = true
  /** payload bytes of this frame that have not come; 0 between frames */
  #left = 0
  /** the message being filled, over its fragments */
  #message: Uint8Array | undefined
  #messageBytes = 0
  readonly #control = new Uint8Array(MOST_CONTROL_BYTES)
  #controlBytes = 0
  #done = false

  constructor(sink: PacketSink) {
    this.#sink = sink
  }

  /** Takes the next bytes, and keeps none of them. Fails with protocol-violation or limit-exceeded. */
  push(chunk: Uint8Array): void {
    try {
      for (let offset = 0; offset < chunk.length && !this.#done; ) {
        if (this.#left === 0) {
          offset = this.#readHeader(chunk, offset)
          if (this.#headerBytes > 0) return
        }
        offset = this.#readPayload(chunk, offset)
        if (this.#left === 0) this.#endFrame()
      }
    } catch (thrown) {
      this.#done = true
      this.#message = undefined
      throw thrown
    }
  }

  /** Collects header bytes; the header is whole when #headerBytes is 0 again. */
  #readHeader(chunk: Uint8Array, start: number): number {
    const header = this.#header
    let offset = start
    while (offset < chunk.length) {
      header[this.#headerBytes++] = chunk[offset++] as number
      if (this.#headerBytes < 2) continue
      const form = checkHeader(header[0] as number, header[1] as number)
      if (form === SHORT_FORM && this.#headerBytes < 4) continue
      this.#headerBytes = 0
      this.#beginFrame(form === SHORT_FORM ? ((header[2] as number) << 8) | (header[3] as number) : form)
      // RFC 6455 section 5.2: the shortest form that can say the length
      if (form === SHORT_FORM && this.#left < SHORT_FORM) throw violation('length')
      break
    }
    return offset
  }

  #beginFrame(length: number): void {
    const first = this.#header[0] as number
    this.#opcode = first & 0x0f
    this.#fin = (first & FIN) !== 0
    this.#left = length
    if (this.#opcode >= CONTROL) {
      this.#controlBytes = 0
      return
    }
    if ((this.#opcode === OPCODE.binary) !== (this.#message === undefined)) throw violation('fragments out of order')
    // fragments without bytes would be free of the limit
    if (!this.#fin && length === 0) throw violation('empty fragment')
    const total = this.#messageBytes + length
    if (total > LIMITS.packetBytes) throw new MortarError('limit-exceeded', `message of ${total} bytes`)
    // how long fragments will be together is not known
    this.#message ??= newBuffer(this.#fin ? length : LIMITS.packetBytes)
  }

  #readPayload(chunk: Uint8Array, offset: number): number {
    const length = Math.min(this.#left, chunk.length - offset)
    const bytes = chunk.subarray(offset, offset + length)
    if (this.#opcode >= CONTROL) {
      this.#control.set(bytes, this.#controlBytes)
      this.#controlBytes += length
    } else {
      this.#message?.set(bytes, this.#messageBytes)
      this.#messageBytes += length
    }
    this.#left -= length
    return offset + length
  }

  #endFrame(): void {
    if (this.#opcode >= CONTROL) return this.#endControl(this.#control.slice(0, this.#controlBytes))
    const message = this.#message
    if (!this.#fin || !message) return
    const whole = message.length === this.#messageBytes ? message : message.slice(0, this.#messageBytes)
    this.#message = undefined
    this.#messageBytes = 0
    this.#sink.packet(whole)
  }

  #endControl(payload: Uint8Array): void {
    if (this.#opcode === OPCODE.ping) return this.#sink.ping(payload)
    if (this.#opcode !== OPCODE.close) return
    const { code, reason } = readClose(payload)
    this.#done = true
    this.#message = undefined
    this.#sink.close(code, reason)
  }
}

/** Returns the length field of the second byte. Fails with protocol-violation or limit-exceeded. */
function checkHeader(first: number, second: number): number {
  const opcode = first & 0x0f
  const form = second & 0x7f
  if ((first & RESERVED) !== 0) throw violation('reserved bits')
  if ((second & MASKED) !== 0) throw violation('masked frame')
  if (opcode >= CONTROL) {
    if (opcode > OPCODE.pong || (first & FIN) === 0 || form > MOST_CONTROL_BYTES) throw violation('control frame')
  } else if (opcode !== OPCODE.binary && opcode !== OPCODE.continuation) throw violation('not a binary message')
  // only what is longer than any packet may take this form
  if (form === LONG_FORM) throw new MortarError('limit-exceeded', 'frame length')
  return form
}

function readClose(payload: Uint8Array): { code: number; reason: string } {
  if (payload.length === 0) return { code: NO_STATUS, reason: '' }
  if (payload.length === 1) throw violation('close frame')
  const code = ((payload[0] as number) << 8) | (payload[1] as number)
  if (!mayBeSent(code)) throw violation(`close code ${code}`)
  try {
    return { code, reason: utf8.decode(payload.subarray(2)) }
  } catch (cause) {
    throw new MortarError('protocol-violation', 'close reason', { cause })
  }
}

/** RFC 6455 section 7.4: what is registered, or anybody's own, and not one that stands for a lost connection */
function mayBeSent(code: number): boolean {
  return (code >= 1000 && code <= 1014 && (code < 1004 || code > 1006)) || (code >= 3000 && code <= 4999)
}

function newBuffer(length: number): Uint8Array {
  return length < UNZEROED_BYTES ? new Uint8Array(length) : new Uint8Array(Buffer.allocUnsafeSlow(length).buffer)
}

function violation(what: string): MortarError {
  return new MortarError('protocol-violation', what)
}

/**
 * The header of a client's whole frame. The mask guards intermediaries against text that an attacker chose; all that ends
 * send is ciphertext, and a zero key need not be applied. `length`: of the payload, at most LIMITS.packetBytes.
 */
export function frameHeader(opcode: number, length: number): Uint8Array {
  const long = length >= SHORT_FORM
  const header = Buffer.alloc(long ? 8 : 6)
  header[0] = FIN | opcode
  header[1] = MASKED | (long ? SHORT_FORM : length)
  if (long) header.writeUInt16BE(length, 2)
  return header
}

/** A client's whole control frame. `payload`: at most 125 bytes. */
export function controlFrame(opcode: number, payload: Uint8Array): Uint8Array {
  return Buffer.concat([frameHeader(opcode, payload.length), payload])
}

/** A client's close frame; NO_STATUS makes it say no code. */
export function closeFrame(code: number): Uint8Array {
  return controlFrame(OPCODE.close, code === NO_STATUS ? Buffer.alloc(0) : Buffer.of(code >> 8, code & 0xff))
}
