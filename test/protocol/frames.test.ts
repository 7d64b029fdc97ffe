/** Every row of the table of frames at its edges: what decodeFrames takes, and what it refuses. SPEC §7.1 */
import { describe, expect, test } from 'vitest'
import { LIMITS } from '../../protocol/core/limits.ts'
import { decodeFrames, FRAMES } from '../../protocol/mux/frame.ts'

const violation = expect.objectContaining({ code: 'protocol-violation' })

interface Raw {
  type: number
  flags: number
  length: number
  streamId: number
  /** bytes that are there, if not `length` */
  body?: number
}

/** A frame byte by byte, as SPEC §7.1 draws it. */
function raw({ type, flags, length, streamId, body = length }: Raw): Uint8Array {
  const bytes = new Uint8Array(8 + body).fill(0x5a, 8)
  const view = new DataView(bytes.buffer)
  view.setUint8(0, type)
  view.setUint8(1, flags)
  view.setUint16(2, length)
  view.setUint32(4, streamId)
  return bytes
}

const ROWS = Object.entries(FRAMES).map(([name, row]) => {
  const sound = { type: row.type, flags: 0, length: row.least, streamId: row.scope === 'session' ? 0 : 1 }
  return [name, row, sound] as const
})
const decode = (frame: Raw) => decodeFrames(raw(frame))[0]

describe.each(ROWS)('%s', (name, row, sound) => {
  test('is as long as its row allows', () => {
    for (const length of [row.least, row.most]) {
      const decoded = decode({ ...sound, length })
      expect(decoded).toMatchObject({ type: name, flags: 0, streamId: sound.streamId })
      expect(decoded?.body).toHaveLength(length)
    }
    expect(() => decode({ ...sound, length: row.most + 1 })).toThrow(violation)
    if (row.least > 0) expect(() => decode({ ...sound, length: row.least - 1 })).toThrow(violation)
  })

  test('has no flags but those of its row', () => {
    expect(decode({ ...sound, flags: row.flags })).toMatchObject({ flags: row.flags })
    for (const flags of [row.flags + 1, 2, 128, 255]) expect(() => decode({ ...sound, flags })).toThrow(violation)
  })

  test('has a stream id that suits its scope', () => {
    const ids = [1, 2, 255, 256, 2 ** 31, 2 ** 32 - 1]
    if (row.scope === 'session') {
      for (const streamId of ids) expect(() => decode({ ...sound, streamId })).toThrow(violation)
    } else {
      for (const streamId of ids) expect(decode({ ...sound, streamId })).toMatchObject({ streamId })
      expect(() => decode({ ...sound, streamId: 0 })).toThrow(violation)
    }
  })

  test('does not reach beyond its record', () => {
    const length = Math.max(1, row.least)
    if (row.most > 0) expect(() => decode({ ...sound, length, body: length - 1 })).toThrow(violation)
    const whole = raw(sound)
    for (let bytes = 1; bytes < whole.length; bytes++) {
      expect(() => decodeFrames(whole.subarray(0, bytes)), `${bytes} bytes`).toThrow(violation)
    }
    // and neither does the frame behind one that is whole
    expect(() => decodeFrames(Uint8Array.from([...whole, ...whole.subarray(0, 7)]))).toThrow(violation)
  })
})

test('bodies are as long as the limits say', () => {
  const { messageBytes, secretBytes, recordPlaintextBytes, frameHeaderBytes } = LIMITS
  expect(frameHeaderBytes).toBe(raw({ type: 2, flags: 0, length: 0, streamId: 0 }).length)
  for (const row of [FRAMES.ready, FRAMES.open, FRAMES.accept, FRAMES.message]) expect(row.most).toBe(messageBytes)
  expect(FRAMES.secret.most).toBe(secretBytes)
  expect(FRAMES.data.most).toBe(recordPlaintextBytes - frameHeaderBytes)
})

test('a type that is in no row is refused', () => {
  const known = new Set<number>(ROWS.map(([, row]) => row.type))
  for (let type = 0; type < 256; type++) {
    if (known.has(type)) continue
    for (const streamId of [0, 1]) {
      expect(() => decode({ type, flags: 0, length: 8, streamId }), `type ${type}`).toThrow(violation)
    }
  }
})

test('a record holds at least one frame, and nothing behind its frames', () => {
  expect(() => decodeFrames(new Uint8Array(0))).toThrow(violation)
  const ping = raw({ type: 2, flags: 0, length: 0, streamId: 0 })
  expect(decodeFrames(Uint8Array.from([...ping, ...ping]))).toHaveLength(2)
  expect(() => decodeFrames(Uint8Array.from([...ping, 0]))).toThrow(violation)
})
