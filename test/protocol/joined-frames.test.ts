/** The frames at a joined pair's ends against ws: what ws sends, cut anywhere, comes out as sent; what a server may not send is refused. SPEC §4 */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { OPCODE } from '../../protocol/core/websocket-frames.ts'
import { closeFrame, controlFrame, FrameParser, frameHeader, NO_STATUS } from '../../protocol/native/joined-frames.ts'
import { clientMessages, serverFrame } from '../support/websocket-frames.ts'

/** Runs chunks through a parser; returns all that it tells, in order. */
function parse(chunks: readonly Uint8Array[]) {
  const told: unknown[] = []
  const parser = new FrameParser({
    packet: bytes => told.push(Buffer.from(bytes)),
    ping: payload => told.push(['ping', Buffer.from(payload).toString()]),
    close: (code, reason) => told.push(['close', code, reason]),
  })
  // a chunk's memory is freed once it was read
  for (const chunk of chunks) {
    const copy = Uint8Array.from(chunk)
    parser.push(copy)
    copy.fill(0xee)
  }
  return told
}

function cut(bytes: Buffer, borders: readonly number[]): Buffer[] {
  const places = [0, ...borders.map(border => border % (bytes.length + 1)).sort((a, b) => a - b), bytes.length]
  return places.slice(1).map((end, i) => bytes.subarray(places[i], end))
}

const bytesOf = (length: number, seed = 7) => Buffer.from(Uint8Array.from({ length }, (_, i) => i * seed))
const binary = (payload: Buffer, fin = true) => serverFrame(payload, { opcode: 2, fin })
const continued = (payload: Buffer, fin = true) => serverFrame(payload, { opcode: 0, fin })
const closing = (code: number, reason: Buffer | string = '') =>
  serverFrame(Buffer.concat([Buffer.of(code >> 8, code & 0xff), Buffer.from(reason)]), { opcode: 8, fin: true })
const ping = (text: string) => serverFrame(Buffer.from(text), { opcode: 9, fin: true })

describe('what comes', () => {
  test.each([0, 1, 125, 126, 127, 255, 256, 4_095, 4_096, 65_534, 65_535])('a packet of %i bytes', length => {
    expect(parse([binary(bytesOf(length))])).toEqual([bytesOf(length)])
  })

  test('at every border of two and three chunks', () => {
    const [packet, long] = [bytesOf(5), bytesOf(130)]
    const frames = [
      binary(packet),
      ping('p'),
      binary(packet, false),
      ping(''),
      continued(long),
      closing(4000, 'denied'),
    ]
    const all = Buffer.concat(frames)
    const told = [packet, ['ping', 'p'], ['ping', ''], Buffer.concat([packet, long]), ['close', 4000, 'denied']]
    for (let first = 0; first <= all.length; first++) {
      expect(parse(cut(all, [first]))).toEqual(told)
      expect(parse(cut(all, [first, first + 1]))).toEqual(told)
    }
    expect(parse([...all].map(byte => Uint8Array.of(byte)))).toEqual(told)
  })

  test('whatever ws sends, cut anywhere, arrives as sent', () => {
    const length = fc.oneof(fc.nat(300), fc.constantFrom(125, 126, 127, 4_096, 65_534, 65_535))
    const message = fc.record({
      length,
      seed: fc.nat(255),
      /** where the message is broken into fragments */
      breaks: fc.array(fc.nat(65_535), { maxLength: 4 }),
      /** how many pings come before each part */
      pings: fc.nat(2),
    })
    fc.assert(
      fc.property(
        fc.array(message, { maxLength: 6 }),
        fc.array(fc.nat(400_000), { maxLength: 12 }),
        (messages, borders) => {
          const sent: Buffer[] = []
          const told: unknown[] = []
          for (const { length, seed, breaks, pings } of messages) {
            const payload = bytesOf(length, seed)
            const parts = cut(payload, breaks).filter(part => part.length > 0)
            if (parts.length === 0) parts.push(payload)
            parts.forEach((part, i) => {
              for (let n = 0; n < pings; n++) {
                sent.push(ping(`${n}`))
                told.push(['ping', `${n}`])
              }
              sent.push(serverFrame(Buffer.from(part), { opcode: i === 0 ? 2 : 0, fin: i === parts.length - 1 }))
            })
            told.push(payload)
          }
          expect(parse(cut(Buffer.concat(sent), borders))).toEqual(told)
        },
      ),
      { numRuns: 200 },
    )
  })

  test('each packet has its memory to itself', () => {
    const packets: Uint8Array[] = []
    const parser = new FrameParser({ packet: bytes => packets.push(bytes), ping: () => {}, close: () => {} })
    parser.push(
      Buffer.concat([binary(bytesOf(3)), binary(bytesOf(5_000)), binary(bytesOf(9), false), continued(bytesOf(9))]),
    )
    expect(packets.map(({ length, buffer }) => [length, buffer.byteLength])).toEqual([
      [3, 3],
      [5_000, 5_000],
      [18, 18],
    ])
  })

  test('pongs and what follows a close are not looked at', () => {
    expect(
      parse([serverFrame(Buffer.from('x'), { opcode: 10, fin: true }), closing(1000), Buffer.of(0xff, 0xff)]),
    ).toEqual([['close', 1000, '']])
    expect(parse([serverFrame(Buffer.alloc(0), { opcode: 8, fin: true })])).toEqual([['close', NO_STATUS, '']])
  })
})

const protocolViolations: [string, Uint8Array][] = [
  ['a text message', Buffer.of(0x81, 0)],
  ['reserved bit 1', Buffer.of(0xc2, 0)],
  ['reserved bit 2', Buffer.of(0xa2, 0)],
  ['reserved bit 3', Buffer.of(0x92, 0)],
  ['a reserved data opcode', Buffer.of(0x83, 0)],
  ['a reserved control opcode', Buffer.of(0x8b, 0)],
  ['a masked frame', Buffer.of(0x82, 0x81, 0, 0, 0, 0, 1)],
  ['a masked ping', Buffer.of(0x89, 0x80, 0, 0, 0, 0)],
  ['a length in a longer form than it needs', Buffer.of(0x82, 126, 0, 125)],
  ['a length of zero in the longer form', Buffer.of(0x82, 126, 0, 0)],
  ['a ping of 126 bytes', Buffer.of(0x89, 126, 0, 126)],
  ['a close in the longest form', Buffer.of(0x88, 127, 0, 0, 0, 0, 0, 0, 0, 1)],
  ['a ping in fragments', Buffer.of(0x09, 0)],
  ['a continuation of nothing', continued(bytesOf(1))],
  ['a continuation of a whole message', Buffer.concat([binary(bytesOf(1)), continued(bytesOf(1))])],
  ['a message inside another', Buffer.concat([binary(bytesOf(1), false), binary(bytesOf(1))])],
  ['an empty fragment', binary(bytesOf(0), false)],
  ['an empty fragment in between', Buffer.concat([binary(bytesOf(1), false), continued(bytesOf(0), false)])],
  ['a close of one byte', Buffer.of(0x88, 1, 3)],
  ['a close reason that is no UTF-8', closing(4000, Buffer.of(0xc3, 0x28))],
  ...[0, 999, 1004, 1005, 1006, 1015, 2999, 5000, 65_535].map((code): [string, Uint8Array] => [
    `close code ${code}`,
    closing(code),
  ]),
]
const tooLong: [string, Uint8Array][] = [
  ['the longest form', Buffer.of(0x82, 127)],
  ['fragments that are too long together', Buffer.concat([binary(bytesOf(65_535), false), continued(bytesOf(1))])],
]

describe('what is refused', () => {
  test.each([
    ...protocolViolations.map(([what, bytes]) => [what, bytes, 'protocol-violation'] as const),
    ...tooLong.map(([what, bytes]) => [what, bytes, 'limit-exceeded'] as const),
  ])('%s', (_what, bytes, code) => {
    const good = binary(bytesOf(2))
    const parser = (told: unknown[]) =>
      new FrameParser({ packet: packet => told.push(packet), ping: () => {}, close: () => told.push('close') })
    for (const chunks of [[bytes], [good, bytes], [...Buffer.concat([good, bytes])].map(byte => Uint8Array.of(byte))]) {
      const told: unknown[] = []
      const reading = parser(told)
      expect(() => {
        for (const chunk of chunks) reading.push(chunk)
      }).toThrow(expect.objectContaining({ code }))
      const before = told.length
      // a parser that has refused stays shut
      reading.push(good)
      expect(told).toHaveLength(before)
    }
  })

  test('any bytes are taken or refused, never more', () => {
    fc.assert(
      fc.property(fc.uint8Array({ maxLength: 400 }), fc.array(fc.nat(400), { maxLength: 5 }), (bytes, borders) => {
        const all = Buffer.from(bytes)
        const outcome = (chunks: Buffer[]) => {
          try {
            return parse(chunks)
          } catch (thrown) {
            return (thrown as { code: string }).code
          }
        }
        const whole = outcome([all])
        expect(outcome(cut(all, borders))).toEqual(whole)
        if (typeof whole === 'string') expect(['protocol-violation', 'limit-exceeded']).toContain(whole)
      }),
      { numRuns: 2_000 },
    )
  })
})

describe('what goes', () => {
  test.each([0, 1, 125, 126, 127, 65_535])('a packet of %i bytes is what ws understands', async length => {
    const frame = Buffer.concat([frameHeader(OPCODE.binary, length), bytesOf(length)])
    expect(await clientMessages(frame)).toEqual([bytesOf(length)])
  })

  test('so are pongs and closes', async () => {
    const frames = [controlFrame(OPCODE.pong, bytesOf(125)), closeFrame(1000)]
    await expect(clientMessages(Buffer.concat(frames))).resolves.toEqual([])
    await expect(clientMessages(Buffer.from(closeFrame(NO_STATUS)))).resolves.toEqual([])
  })
})
