/** Secrets leave no copies behind in what protocol/ itself allocates, and hostile encodings are refused. */
import { expect, test } from 'vitest'
import { hkdf } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { SymmetricState } from '../../protocol/channel/symmetric-state.ts'
import { concat, encodeText } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { bytes, object, z } from '../../protocol/core/schema.ts'

/** Keeps hold of everything that goes through HMAC, as it is afterwards. */
function watched() {
  const messages: Uint8Array[] = []
  const outputs: Uint8Array[] = []
  const suite: Suite = {
    ...nobleSuite,
    algorithms: {
      ...nobleSuite.algorithms,
      hmac(key, message) {
        const output = nobleSuite.algorithms.hmac(key, message)
        messages.push(message)
        outputs.push(output)
        return output
      },
    },
  }
  const left = (list: Uint8Array[]) => list.filter(item => item.some(byte => byte !== 0)).length
  return { suite, messages: () => left(messages), outputs: () => left(outputs) }
}

test('a derivation leaves nothing behind but its result', () => {
  const { suite, messages, outputs } = watched()
  const key = hkdf(suite, new Uint8Array(32).fill(1), new Uint8Array(32), 'label', 64)
  expect(key).toEqual(hkdf(nobleSuite, new Uint8Array(32).fill(1), new Uint8Array(32), 'label', 64))
  // the input key is the caller's
  expect(messages()).toBe(1)
  expect(outputs()).toBe(0)
})

test('a handshake state leaves no chaining key behind', () => {
  const { suite, messages, outputs } = watched()
  const state = new SymmetricState(suite.algorithms, 'Noise_XKpsk3_25519_ChaChaPoly_SHA256')
  state.mixKeyAndHash(new Uint8Array(32).fill(1))
  state.split()
  expect(messages()).toBe(1)
  expect(outputs()).toBe(0)
})

const holder = object({ secret: bytes(32) })

test('CBOR that is not the one encoding of its value is refused', () => {
  const good = encodeCbor({ secret: new Uint8Array(32) })
  expect(decodeCbor(holder, good, 100, 'bad-request').secret).toEqual(new Uint8Array(32))
  const any = z.unknown()
  const wrong = {
    'something left over': concat(good, Uint8Array.of(0)),
    'keys out of order': Uint8Array.of(0xa2, 0x61, 0x62, 0, 0x61, 0x61, 0),
    'a long integer': Uint8Array.of(0x18, 1),
    'a repeated key': Uint8Array.of(0xa2, 0x61, 0x61, 0, 0x61, 0x61, 0),
    'an indefinite length': Uint8Array.of(0x9f, 0xff),
    'a tag': Uint8Array.of(0xc0, 0x60),
    'depth without end': new Uint8Array(16_384).fill(0x81),
    'depth without end, of maps': new Uint8Array(16_384).fill(0xa1),
    'half a float': Uint8Array.of(0xf9, 0x3e, 0x00),
    'a float': Uint8Array.of(0xfa, 0x3f, 0xc0, 0, 0),
    '1.5': Uint8Array.of(0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0),
    '1.5 in an array in a map': Uint8Array.of(0xa1, 0x61, 0x61, 0x82, 1, 0xfb, 0x3f, 0xf8, 0, 0, 0, 0, 0, 0),
    'what encodes 1.5 here': encodeCbor([1.5]),
    'a whole number as float': Uint8Array.of(0xfb, 0x3f, 0xf0, 0, 0, 0, 0, 0, 0),
    'a length of many bytes that is not there': Uint8Array.of(0x5b, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1),
    'a length that is not there': Uint8Array.of(0x9b, 0, 0, 0, 1, 0, 0, 0, 0),
    nothing: new Uint8Array(0),
  }
  for (const [name, encoded] of Object.entries(wrong)) {
    expect(() => decodeCbor(any, encoded, 16_384, 'bad-request'), name).toThrow(
      expect.objectContaining({ code: 'bad-request' }),
    )
  }
})

test('arrays and maps nest as deep as the limit and no deeper', () => {
  const nested = (depth: number, wrap: (inner: unknown) => unknown) => {
    let value: unknown = 1
    for (let i = 0; i < depth; i++) value = wrap(value)
    return encodeCbor(value)
  }
  const wraps = [(inner: unknown) => [inner], (a: unknown) => ({ a }), (inner: unknown) => ['x', inner, 1]]
  for (const wrap of wraps) {
    const most = nested(LIMITS.nesting, wrap)
    expect(encodeCbor(decodeCbor(z.unknown(), most, 1_000, 'bad-request'))).toEqual(most)
    expect(() => decodeCbor(z.unknown(), nested(LIMITS.nesting + 1, wrap), 1_000, 'bad-request')).toThrow(
      expect.objectContaining({ code: 'bad-request', detail: `more than ${LIMITS.nesting} deep` }),
    )
  }
  // beside each other they are no deeper, and bytes and text that look like heads are none
  const flat = encodeCbor([
    ...Array.from({ length: 50 }, () => [[]]),
    new Uint8Array(90).fill(0x81),
    '\u00fb'.repeat(9),
  ])
  expect(encodeCbor(decodeCbor(z.unknown(), flat, 1_000, 'bad-request'))).toEqual(flat)
})

test('a key that is called __proto__ changes no prototype', () => {
  const encoded = concat(Uint8Array.of(0xa1, 0x69), encodeText('__proto__'), Uint8Array.of(0xa1, 0x61, 0x61, 1))
  expect((decodeCbor(z.unknown(), encoded, 100, 'bad-request') as { a?: number }).a).toBeUndefined()
  expect(() => decodeCbor(holder, encoded, 100, 'bad-request')).toThrow()
})
