/** The relay's frame reader against ws: whatever ws sends, cut anywhere, ws must receive the same. SPEC §4 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { FrameReader } from '../../broker/relay/frames.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { maskedFrame, receiveAll } from '../support/websocket-frames.ts'

/** Runs chunks through a reader; returns what it sends on and the control frames it keeps. */
function relay(chunks: readonly Buffer[]) {
  const out: Buffer[] = []
  const control: [number, string][] = []
  const reader = new FrameReader({
    forward: bytes => out.push(Buffer.from(bytes)),
    control: (opcode, payload) => control.push([opcode, payload.toString('hex')]),
  })
  for (const chunk of chunks) reader.push(Buffer.from(chunk))
  return { bytes: Buffer.concat(out), control }
}

function cut(bytes: Buffer, borders: readonly number[]): Buffer[] {
  const places = [0, ...borders.map(border => border % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return places.slice(1).map((end, i) => bytes.subarray(places[i], end))
}

const length = fc.oneof(fc.integer({ min: 0, max: 300 }), fc.constantFrom(125, 126, 127, 65_534, 65_535))
const message = fc.record({
  length,
  fill: fc.integer({ min: 0, max: 255 }),
  mask: fc.oneof(fc.constant(0), fc.integer({ min: 1, max: 0xffffffff })),
  /** where the message is broken into two fragments; 0 = not */
  fragment: fc.integer({ min: 0, max: 50 }),
  /** a ping before it, or between its fragments */
  ping: fc.constantFrom('none', 'before', 'between'),
})

describe('frames', () => {
  test('whatever ws sends, cut anywhere, arrives as sent', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(message, { maxLength: 8 }),
        fc.array(fc.nat(200_000), { maxLength: 12 }),
        async (messages, borders) => {
          const sent: Buffer[] = []
          const expected: Buffer[] = []
          let pings = 0
          for (const item of messages) {
            const payload = Buffer.alloc(item.length, item.fill)
            for (let i = 0; i < payload.length; i += 7) payload[i] = i & 0xff
            expected.push(Buffer.from(payload))
            const parts =
              item.fragment > 0 && item.fragment < payload.length
                ? [payload.subarray(0, item.fragment), payload.subarray(item.fragment)]
                : [payload]
            const ping = () => {
              pings++
              sent.push(maskedFrame(Buffer.from([1, 2, 3]), { opcode: 9, fin: true, mask: item.mask }))
            }
            if (item.ping === 'before') ping()
            for (const [index, part] of parts.entries()) {
              if (index > 0 && item.ping === 'between') ping()
              sent.push(
                maskedFrame(Buffer.from(part), {
                  opcode: index === 0 ? 2 : 0,
                  fin: index === parts.length - 1,
                  mask: item.mask,
                }),
              )
            }
          }
          const { bytes, control } = relay(cut(Buffer.concat(sent), borders))
          expect(await receiveAll(bytes)).toEqual(expected)
          expect(control).toEqual(Array(pings).fill([9, '010203']))
        },
      ),
      { numRuns: 300 },
    )
  })

  test.each([
    ['a text message', Buffer.from([0x81, 0x80, 0, 0, 0, 0])],
    ['reserved bits', Buffer.from([0xc2, 0x80, 0, 0, 0, 0])],
    ['an unmasked frame', Buffer.from([0x82, 0x01, 0x41])],
    ['a continuation of nothing', Buffer.from([0x80, 0x80, 0, 0, 0, 0])],
    ['a message inside a message', Buffer.from([0x02, 0x81, 0, 0, 0, 0, 1, 0x82, 0x80, 0, 0, 0, 0])],
    ['an empty fragment', Buffer.from([0x02, 0x80, 0, 0, 0, 0])],
    ['a fragmented ping', Buffer.from([0x09, 0x80, 0, 0, 0, 0])],
    ['a ping of 126 bytes', Buffer.from([0x89, 0xfe, 0, 126, 0, 0, 0, 0])],
    ['an unknown control frame', Buffer.from([0x8b, 0x80, 0, 0, 0, 0])],
    ['a length in a longer form than it needs', Buffer.from([0x82, 0xfe, 0, 125, 0, 0, 0, 0])],
    ['a length of 65,535 in the longest form', Buffer.from([0x82, 0xff, 0, 0, 0, 0, 0, 0, 0xff, 0xff, 0, 0, 0, 0])],
    ['a length of 2^63', Buffer.from([0x82, 0xff, 0x80, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0])],
  ])('refuses %s', (_what, bytes) => {
    expect(() => relay([bytes])).toThrow()
    expect(() => relay([...bytes].map(byte => Buffer.of(byte)))).toThrow()
  })

  test('refuses a message of one byte more than a packet, over its fragments too', () => {
    const whole = maskedFrame(Buffer.alloc(LIMITS.packetBytes + 1), { opcode: 2, fin: true, mask: 0 })
    expect(() => relay([whole])).toThrow(/limit/i)
    const fragments = [
      maskedFrame(Buffer.alloc(LIMITS.packetBytes), { opcode: 2, fin: false, mask: 0 }),
      maskedFrame(Buffer.alloc(1), { opcode: 0, fin: true, mask: 0 }),
    ]
    expect(() => relay(fragments)).toThrow(/limit/i)
  })
})
