/** Parsers against bent input, in the short form of `npm run hostile`; properties of their inverses; and the control. */
import fc from 'fast-check'
import { describe, expect, test } from 'vitest'
import { decodeBase64url, decodeHex, encodeBase64url, encodeHex } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { z } from '../../protocol/core/schema.ts'
import { decodeFrames, encodeFrame, FRAMES, type Frame, type FrameType, frameBytes } from '../../protocol/mux/frame.ts'
import { fuzz, sound } from '../hostile/fuzz.ts'
import { PARSERS, type Parser } from '../hostile/parsers.ts'

const SEED = process.env.HOSTILE_SEED ?? `${Date.now()}`
/** readers of what the other side says first: the nightly form gives them a million inputs */
const FIRST = ['frames', 'CBOR messages', 'ticket', 'certificate', 'control JSON']
console.info(`seed of the fuzzer: ${SEED}`)

describe('no input crashes, holds up or fattens a parser', () => {
  test.each(PARSERS.map(parser => [parser.name, parser] as const))('%s', (_name, parser) => {
    const result = fuzz(parser, parser.inputs.short, SEED)
    expect(result.findings).toEqual([])
    expect(result.accepted).toBeGreaterThan(0)
    expect(result).toSatisfy(sound)
  })

  test('the nightly form gives the first readers a million inputs, and each a fair share', () => {
    const first = PARSERS.filter(({ name }) => FIRST.includes(name))
    expect(first).toHaveLength(FIRST.length)
    expect(first.reduce((sum, { inputs }) => sum + inputs.nightly, 0)).toBeGreaterThanOrEqual(1_000_000)
    for (const { inputs } of first) expect(inputs.nightly).toBeGreaterThanOrEqual(100_000)
  })
})

describe('a parser that is bad is reported', () => {
  const bad = (name: string, parse: Parser['parse']): Parser => ({
    name,
    inputs: { short: 0, nightly: 0 },
    corpus: [Uint8Array.from([1, 2, 3, 4])],
    codes: ['bad-request'],
    parse,
  })
  const kept: Uint8Array[] = []

  test.each([
    [
      'it crashes at one byte',
      bad('crash', input => {
        if (input[1] === 0x7f) (undefined as unknown as string).length
      }),
    ],
    [
      'it fails with a code of somebody else',
      bad('code', input => {
        if (input.length === 2) throw new MortarError('internal')
      }),
    ],
    [
      'it runs out of stack',
      bad('stack', input => {
        const descend = (): number => 1 + descend()
        if (input.length > 7) descend()
      }),
    ],
    [
      'it hangs at one byte',
      bad('hang', input => {
        const end = performance.now() + (input[0] === 0xff ? 60 : 0)
        while (performance.now() < end);
      }),
    ],
    ['it keeps what it reads', bad('memory', () => void kept.push(new Uint8Array(100_000).fill(1)))],
  ])('%s', (_what, parser) => {
    expect(fuzz(parser, 2_000, SEED)).not.toSatisfy(sound)
    kept.length = 0
  })
})

const frame = fc
  .tuple(
    fc.constantFrom(...(Object.keys(FRAMES) as FrameType[])),
    fc.integer({ min: 1, max: 2 ** 32 - 1 }),
    fc.nat(2_000),
    fc.nat(255),
  )
  .map(([type, id, size, fill]): Frame => {
    const row = FRAMES[type]
    const length = Math.max(row.least, Math.min(row.most, size))
    const streamId = row.scope === 'session' ? 0 : id
    return { type, streamId, flags: fill % (row.flags + 1), body: new Uint8Array(length).fill(fill) }
  })

test('frames that were encoded decode to themselves, and to nothing when one byte is missing', () => {
  fc.assert(
    fc.property(fc.array(frame, { minLength: 1, maxLength: 12 }), frames => {
      const record = new Uint8Array(frames.reduce((sum, item) => sum + frameBytes(item), 0))
      let offset = 0
      for (const item of frames) offset = encodeFrame(record, offset, item)
      const decoded = decodeFrames(record)
      expect(decoded.map(({ body, ...rest }) => ({ ...rest, body: encodeHex(body) }))).toEqual(
        frames.map(({ body, ...rest }) => ({ ...rest, body: encodeHex(body) })),
      )
      const last = frames.at(-1) as Frame
      if (frameBytes(last) > 1) expect(() => decodeFrames(record.subarray(0, -1))).toThrow(MortarError)
    }),
    { numRuns: 500 },
  )
})

const value = fc.letrec(tie => ({
  any: fc.oneof(
    { depthSize: 'small', maxDepth: LIMITS.nesting - 1 },
    fc.constant(null),
    fc.boolean(),
    fc.maxSafeInteger(),
    fc.string({ unit: 'grapheme' }),
    fc.uint8Array({ maxLength: 40 }),
    fc.array(tie('any'), { maxLength: 5 }),
    fc.dictionary(fc.string(), tie('any'), { maxKeys: 5, noNullPrototype: true }),
  ),
})).any

test('a CBOR value has one encoding, and any other bytes for it are refused', () => {
  fc.assert(
    fc.property(value, fc.nat(), fc.nat(255), (item, place, byte) => {
      const encoded = encodeCbor(item)
      const decoded = decodeCbor(z.unknown(), encoded, 2 ** 20, 'bad-request')
      expect(encodeHex(encodeCbor(decoded))).toBe(encodeHex(encoded))
      const changed = encoded.slice()
      changed[place % changed.length] = byte
      let other: unknown
      try {
        other = decodeCbor(z.unknown(), changed, 2 ** 20, 'bad-request')
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(MortarError)
        return
      }
      expect(encodeHex(encodeCbor(other))).toBe(encodeHex(changed))
    }),
    { numRuns: 2_000 },
  )
})

test('base64url and hex decode to what was encoded, and each text stands for one value', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 100 }), fc.string(), (bytes, text) => {
      expect(encodeHex(decodeBase64url(encodeBase64url(bytes)))).toBe(encodeHex(bytes))
      expect(encodeHex(decodeHex(encodeHex(bytes)))).toBe(encodeHex(bytes))
      let decoded: Uint8Array
      try {
        decoded = decodeBase64url(text)
      } catch (thrown) {
        expect(thrown).toBeInstanceOf(RangeError)
        return
      }
      expect(encodeBase64url(decoded)).toBe(text)
    }),
    { numRuns: 2_000 },
  )
})
