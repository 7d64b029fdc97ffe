/** Secrets leave no copies behind in what protocol/ itself allocates, and hostile encodings are refused. */
import { expect, test } from 'vitest'
import { hkdf } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { SymmetricState } from '../../protocol/channel/symmetric-state.ts'
import { concat, encodeText } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
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
    'a length that is not there': Uint8Array.of(0x9b, 0, 0, 0, 1, 0, 0, 0, 0),
    nothing: new Uint8Array(0),
  }
  for (const [name, encoded] of Object.entries(wrong)) {
    expect(() => decodeCbor(any, encoded, 16_384, 'bad-request'), name).toThrow(
      expect.objectContaining({ code: 'bad-request' }),
    )
  }
})

test('a key that is called __proto__ changes no prototype', () => {
  const encoded = concat(Uint8Array.of(0xa1, 0x69), encodeText('__proto__'), Uint8Array.of(0xa1, 0x61, 0x61, 1))
  expect((decodeCbor(z.unknown(), encoded, 100, 'bad-request') as { a?: number }).a).toBeUndefined()
  expect(() => decodeCbor(holder, encoded, 100, 'bad-request')).toThrow()
})
