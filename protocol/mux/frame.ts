/**
 * Frames: the multiplexer's unit. A record holds one or more whole frames. SPEC §7.1
 *
 *    0        1        2                 4                                   8
 *   +--------+--------+-----------------+-----------------------------------+----------
 *   |  type  |  flags |     length      |             stream id             |  body …
 *   +--------+--------+-----------------+-----------------------------------+----------
 */
import { readUint, writeUint } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'

interface FrameRow {
  readonly type: number
  /** whether it speaks of a stream or of the session (stream id 0) */
  readonly scope: 'session' | 'stream'
  /** bytes of the body, from and to */
  readonly least: number
  readonly most: number
  /** largest value of flags */
  readonly flags: number
}

const DATA_BYTES = LIMITS.recordPlaintextBytes - LIMITS.frameHeaderBytes

export const FRAMES = {
  ready: { type: 1, scope: 'session', least: 1, most: LIMITS.messageBytes, flags: 0 },
  ping: { type: 2, scope: 'session', least: 0, most: 0, flags: 0 },
  pong: { type: 3, scope: 'session', least: 0, most: 0, flags: 0 },
  goAway: { type: 4, scope: 'session', least: 0, most: 64, flags: 0 },
  open: { type: 16, scope: 'stream', least: 1, most: LIMITS.messageBytes, flags: 0 },
  accept: { type: 17, scope: 'stream', least: 1, most: LIMITS.messageBytes, flags: 0 },
  /** flags: the lane */
  data: { type: 18, scope: 'stream', least: 1, most: DATA_BYTES, flags: 1 },
  message: { type: 19, scope: 'stream', least: 1, most: LIMITS.messageBytes, flags: 0 },
  secret: { type: 20, scope: 'stream', least: 1, most: LIMITS.secretBytes, flags: 0 },
  window: { type: 21, scope: 'stream', least: 10, most: 10, flags: 0 },
  end: { type: 22, scope: 'stream', least: 8, most: 8, flags: 0 },
  reset: { type: 23, scope: 'stream', least: 0, most: 64, flags: 0 },
} as const satisfies Record<string, FrameRow>

export type FrameType = keyof typeof FRAMES
export const MOST_DATA_BYTES = DATA_BYTES

export interface Frame {
  readonly type: FrameType
  readonly streamId: number
  readonly flags: number
  /** a view on the record */
  readonly body: Uint8Array
}

const TYPES = new Map<number, FrameType>(Object.entries(FRAMES).map(([name, row]) => [row.type, name as FrameType]))

/** Bytes that the frame takes in a record. */
export function frameBytes(frame: Frame): number {
  return LIMITS.frameHeaderBytes + frame.body.length
}

/** Writes a frame into a record at `offset`; returns the offset behind it. */
export function encodeFrame(record: Uint8Array, offset: number, frame: Frame): number {
  record[offset] = FRAMES[frame.type].type
  record[offset + 1] = frame.flags
  writeUint(record, offset + 2, 2, frame.body.length)
  writeUint(record, offset + 4, 4, frame.streamId)
  record.set(frame.body, offset + LIMITS.frameHeaderBytes)
  return offset + frameBytes(frame)
}

/** The frames of a record, in order. Fails with protocol-violation for anything that is not exactly whole, known frames. */
export function decodeFrames(record: Uint8Array): Frame[] {
  const frames: Frame[] = []
  let offset = 0
  while (offset < record.length) {
    const frame = decodeFrame(record, offset)
    frames.push(frame)
    offset += frameBytes(frame)
  }
  if (frames.length === 0) throw new MortarError('protocol-violation', 'empty record')
  return frames
}

function decodeFrame(record: Uint8Array, offset: number): Frame {
  if (record.length - offset < LIMITS.frameHeaderBytes) throw new MortarError('protocol-violation', 'frame header')
  const type = TYPES.get(record[offset] as number)
  if (!type) throw new MortarError('protocol-violation', 'frame type')
  const row: FrameRow = FRAMES[type]
  const flags = record[offset + 1] as number
  const length = readUint(record, offset + 2, 2)
  const streamId = readUint(record, offset + 4, 4)
  const start = offset + LIMITS.frameHeaderBytes
  const valid =
    flags <= row.flags &&
    length >= row.least &&
    length <= row.most &&
    start + length <= record.length &&
    (row.scope === 'session') === (streamId === 0)
  if (!valid) throw new MortarError('protocol-violation', `frame ${type}`)
  return { type, streamId, flags, body: record.subarray(start, start + length) }
}
