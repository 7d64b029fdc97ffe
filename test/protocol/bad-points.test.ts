/** Points, keys, signatures and tags as an attacker makes them, in the manner of Wycheproof: none may pass, in either suite. */
import { createHash } from 'node:crypto'
import { ed25519 } from '@noble/curves/ed25519.js'
import { describe, expect, test } from 'vitest'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import { concat, encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import { sign, signingPublicKey, verify } from '../../protocol/core/signing.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { flipBit, LOW_ORDER_POINTS } from '../hostile/bytes.ts'
import { Random } from '../hostile/random.ts'

const suites: [string, Suite][] = [
  ['noble', nobleSuite],
  ['native', nativeSuite],
]
const random = new Random('bad points')
const fromHex = (hex: string) => new Uint8Array(Buffer.from(hex, 'hex'))
const littleEndian = (value: bigint) => fromHex(value.toString(16).padStart(64, '0')).reverse()
const toNumber = (bytes: Uint8Array) => BigInt(`0x${encodeHex(bytes.slice().reverse())}`)
const FIELD = 2n ** 255n - 19n

describe.each(suites)('X25519 by %s', (_name, suite) => {
  test.each(LOW_ORDER_POINTS)('a point of low order is refused: %s', async point => {
    for (let i = 0; i < 4; i++) {
      const pair = suite.importKeyPair(random.bytes(32))
      await expect(pair.dh(fromHex(point))).rejects.toMatchObject({ code: 'handshake' })
    }
  })

  test('a point beyond the field, or with its unused bit set, means what RFC 7748 says', async () => {
    const pair = suite.importKeyPair(random.bytes(32))
    for (let y = 2n; y < 19n; y++) {
      // all four name the same point or are all refused
      const encodings = [y, y + FIELD, y + 2n ** 255n].map(littleEndian)
      const results = await Promise.all(encodings.map(key => pair.dh(key).then(encodeHex, () => 'refused')))
      expect(new Set(results).size, `u = ${y}`).toBe(1)
    }
  })

  test.each([0, 1, 31, 33, 64])('a key of %i bytes is refused', async length => {
    await expect(suite.generateKeyPair().dh(new Uint8Array(length).fill(9))).rejects.toMatchObject({
      code: 'handshake',
    })
  })

  test('a handshake ends at an ephemeral key that makes the shared secret known beforehand', async () => {
    for (const point of LOW_ORDER_POINTS.map(fromHex)) {
      const agentKeys = suite.importKeyPair(random.bytes(32))
      // an attacker who knows that the agent would compute zero can make the rest of the message
      const ephemeralKeys: KeyPair = { publicKey: point, dh: async () => new Uint8Array(32), wipe() {} }
      const common = { suite, protocolName: 'Noise_XKpsk3_25519_ChaChaPoly_SHA256', prologue: encodeText('x') }
      const attacker = new Handshake({
        ...common,
        initiator: true,
        ephemeralKeys,
        staticKeys: suite.generateKeyPair(),
        remoteStatic: agentKeys.publicKey,
      })
      const agent = new Handshake({ ...common, initiator: false, staticKeys: agentKeys })
      await expect(agent.read(await attacker.write(encodeText('hello')))).rejects.toMatchObject({ code: 'handshake' })
    }
  })
})

describe('Ed25519', () => {
  const seed = random.bytes(32)
  const key = signingPublicKey(seed)
  const { Point } = ed25519
  const order = Point.Fn.ORDER
  const label = 'mortar test v1'
  const message = encodeText('a statement')
  const labelled = concat(encodeText(label), new Uint8Array(1), message)
  const sha512 = (...parts: Uint8Array[]) =>
    toNumber(
      createHash('sha512')
        .update(concat(...parts))
        .digest(),
    )

  test('a true signature verifies, and no flip of one of its bits does', () => {
    const signature = sign(label, message, seed)
    expect(verify(label, message, signature, key)).toBe(true)
    for (let bit = 0; bit < 512; bit++) expect(verify(label, message, flipBit(signature, bit), key)).toBe(false)
    for (let bit = 0; bit < 256; bit += 5) expect(verify(label, message, signature, flipBit(key, bit))).toBe(false)
  })

  test('S beyond the order of the group, the same number again, is refused', () => {
    const signature = sign(label, message, seed)
    const s = toNumber(signature.subarray(32))
    for (let multiple = 1n; s + multiple * order < 2n ** 256n; multiple++) {
      const malleable = concat(signature.subarray(0, 32), littleEndian(s + multiple * order))
      expect(verify(label, message, malleable, key)).toBe(false)
    }
  })

  const smallOrder = [
    '0100000000000000000000000000000000000000000000000000000000000000',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    '0000000000000000000000000000000000000000000000000000000000000000',
    '0000000000000000000000000000000000000000000000000000000000000080',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a',
    'c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05',
    '26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85',
    // not canonical: y is the field's order or more, or x = 0 with its sign set
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
    'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
    '0100000000000000000000000000000000000000000000000000000000000080',
    'ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
  ]
  test.each(smallOrder)('a key of small order signs nothing: %s', encoded => {
    const small = fromHex(encoded)
    for (let i = 0; i < 32; i++) {
      const statement = concat(message, Uint8Array.of(i))
      // S = 0 and R small: the equation holds for about one statement in eight where such keys pass
      for (const r of [small, fromHex(smallOrder[0] as string)]) {
        expect(verify(label, statement, concat(r, new Uint8Array(32)), small)).toBe(false)
      }
    }
  })

  test('a right signature with R in an encoding that is not canonical is refused', () => {
    const digest = createHash('sha512').update(seed).digest().subarray(0, 32)
    digest[0] = (digest[0] as number) & 248
    digest[31] = ((digest[31] as number) & 127) | 64
    const secret = toNumber(digest) % order
    const identity = fromHex(smallOrder[0] as string)
    for (const encoded of [
      'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f',
      'eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff',
      '0100000000000000000000000000000000000000000000000000000000000080',
    ]) {
      // R is the identity, so S is the challenge times the secret; hashed in either encoding
      for (const hashed of [fromHex(encoded), identity]) {
        const s = (sha512(hashed, key, labelled) * secret) % order
        expect(verify(label, message, concat(fromHex(encoded), littleEndian(s)), key)).toBe(false)
      }
    }
  })

  test.each([
    ['signature', 63, 32],
    ['signature', 65, 32],
    ['key', 64, 31],
    ['key', 64, 33],
    ['both', 0, 0],
  ])('a %s of another length is refused', (_what, signatureBytes, keyBytes) => {
    expect(verify(label, message, new Uint8Array(signatureBytes), new Uint8Array(keyBytes))).toBe(false)
  })
})

describe.each(suites)('ChaCha20-Poly1305 by %s', (_name, suite) => {
  test('no tag but the right one opens, whatever was done to it', () => {
    const associated = random.bytes(12)
    for (const length of [0, 1, 15, 16, 17, 63, 64, 65, 129, 1_000]) {
      const aead = suite.algorithms.aead(random.bytes(32))
      const sealed = aead.seal(3, associated, random.bytes(length))
      const tag = sealed.subarray(-16)
      const tags = [
        ...Array.from({ length: 128 }, (_, bit) => flipBit(tag, bit)),
        new Uint8Array(16),
        new Uint8Array(16).fill(0xff),
        tag.map(byte => byte ^ 0xff),
        tag.map(byte => byte ^ 0x80),
        Uint8Array.from(tag).reverse(),
      ]
      for (const wrong of tags) expect(aead.open(3, associated, concat(sealed.subarray(0, -16), wrong))).toBeNull()
      // a tag that is cut, or stands before its ciphertext
      for (let cut = 1; cut <= 16; cut++) expect(aead.open(3, associated, sealed.subarray(0, -cut))).toBeNull()
      if (length > 0) expect(aead.open(3, associated, concat(tag, sealed.subarray(0, -16)))).toBeNull()
      expect(aead.open(3, associated, sealed)?.length).toBe(length)
    }
  })
})
