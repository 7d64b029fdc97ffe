/** The suite of Node's OpenSSL against that of noble: each opens what the other seals, and both refuse the same. SPEC §5, §6 */
import { randomBytes } from 'node:crypto'
import { describe, expect, test } from 'vitest'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { REKEY_COUNTER, type Suite } from '../../protocol/channel/suite.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { decodeHex, encodeHex } from '../../protocol/core/bytes.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { BACKENDS } from '../support/backends.ts'
import { sessionPair } from '../support/session-pair.ts'

const suites: [string, Suite, Suite][] = [
  ['native seals, noble opens', nativeSuite, nobleSuite],
  ['noble seals, native opens', nobleSuite, nativeSuite],
]
const random = (length: number) => new Uint8Array(randomBytes(length))

test.each(suites)('%s, at every size and counter', (_name, sealing, opening) => {
  const key = random(32)
  const [sealer, opener] = [sealing.algorithms.aead(key), opening.algorithms.aead(key)]
  for (const length of [0, 1, 15, 16, 17, 63, 64, 65, 1_000, 65_519]) {
    for (const counter of [0, 1, 255, 2 ** 32, Number.MAX_SAFE_INTEGER, REKEY_COUNTER]) {
      for (const associated of [new Uint8Array(0), random(32)]) {
        const plaintext = random(length)
        const sealed = sealer.seal(counter, associated, plaintext)
        expect(sealed.length).toBe(length + 16)
        for (const open of [opener.open, opener.openSecret]) {
          expect(open(counter, associated, sealed)).toSatisfy((opened: Uint8Array) =>
            Buffer.from(plaintext).equals(opened),
          )
        }
      }
    }
  }
})

test('what was changed anywhere does not open', () => {
  const aead = nativeSuite.algorithms.aead(random(32))
  const associated = random(8)
  const sealed = aead.seal(5, associated, random(40))
  for (let i = 0; i < sealed.length; i++) {
    const changed = sealed.slice()
    changed[i] = (changed[i] as number) ^ 1
    expect(aead.open(5, associated, changed)).toBeNull()
    expect(aead.openSecret(5, associated, changed)).toBeNull()
  }
  expect(aead.open(6, associated, sealed)).toBeNull()
  expect(aead.open(5, random(8), sealed)).toBeNull()
  expect(aead.open(5, associated, sealed.subarray(0, 15))).toBeNull()
  expect(aead.open(5, associated, sealed)).not.toBeNull()
})

test('both suites agree on X25519, SHA-256 and HMAC', async () => {
  for (let round = 0; round < 8; round++) {
    const [a, b] = [random(32), random(32)]
    const native = [nativeSuite.importKeyPair(a), nativeSuite.importKeyPair(b)] as const
    const noble = [nobleSuite.importKeyPair(a), nobleSuite.importKeyPair(b)] as const
    expect(encodeHex(native[0].publicKey)).toBe(encodeHex(noble[0].publicKey))
    expect(encodeHex(await native[0].dh(noble[1].publicKey))).toBe(encodeHex(await noble[1].dh(native[0].publicKey)))
    const message = random(round * 37)
    expect(encodeHex(nativeSuite.algorithms.hash(message))).toBe(encodeHex(nobleSuite.algorithms.hash(message)))
    expect(encodeHex(nativeSuite.algorithms.hmac(a, message))).toBe(encodeHex(nobleSuite.algorithms.hmac(a, message)))
  }
})

describe.each(Object.entries(BACKENDS))('with %s', (_, { suite }) => {
  test('a point of low order is refused', async () => {
    const pair = suite.generateKeyPair()
    await expect(pair.dh(new Uint8Array(32))).rejects.toMatchObject({ code: 'handshake' })
    const order8 = decodeHex('e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800')
    await expect(pair.dh(order8)).rejects.toMatchObject({ code: 'handshake' })
    await expect(pair.dh(new Uint8Array(31))).rejects.toMatchObject({ code: 'handshake' })
  })

  test('a wiped key cannot be used', async () => {
    const gone = (code: string) => expect.objectContaining({ code, detail: 'the key is gone' })
    const pair = suite.generateKeyPair()
    pair.wipe()
    await expect(pair.dh(suite.generateKeyPair().publicKey)).rejects.toThrow(gone('handshake'))
    const kem = suite.generateKemKeys()
    const { ciphertext } = suite.encapsulate(kem.publicKey)
    kem.wipe()
    expect(() => kem.decapsulate(ciphertext)).toThrow(gone('handshake'))
    const aead = suite.algorithms.aead(random(32))
    const sealed = aead.seal(0, new Uint8Array(0), random(1))
    aead.wipe()
    expect(() => aead.seal(0, new Uint8Array(0), random(1))).toThrow(gone('connection-lost'))
    expect(() => aead.open(0, new Uint8Array(0), sealed)).toThrow(gone('connection-lost'))
  })

  test('what it returns that is secret lies in a buffer that V8 does not move', async () => {
    const [a, b] = [suite.generateKeyPair(), suite.generateKeyPair()]
    const kem = suite.generateKemKeys()
    const { ciphertext, secret } = suite.encapsulate(kem.publicKey)
    const { aead, hmac } = suite.algorithms
    const sealed = aead(random(32)).seal(REKEY_COUNTER, new Uint8Array(0), new Uint8Array(32))
    const made = [await a.dh(b.publicKey), kem.decapsulate(ciphertext), secret, hmac(random(32), random(9)), sealed]
    for (const bytes of [...made, suite.randomBytes(32)]) expect(bytes.buffer.byteLength).toBeGreaterThanOrEqual(128)
    expect(suite.randomBytes(32)).not.toEqual(suite.randomBytes(32))
  })
})

test('ML-KEM takes keys and ciphertexts of its one length, and both suites understand each other', () => {
  for (const [receiving, sending] of [
    [nativeSuite, nobleSuite],
    [nobleSuite, nativeSuite],
    [nativeSuite, nativeSuite],
  ] as const) {
    const keys = receiving.generateKemKeys()
    const { ciphertext, secret } = sending.encapsulate(keys.publicKey)
    expect([keys.publicKey.length, ciphertext.length, secret.length]).toEqual([1_184, 1_088, 32])
    expect(encodeHex(keys.decapsulate(ciphertext))).toBe(encodeHex(secret))
    const handshake = expect.objectContaining({ code: 'handshake' })
    for (const key of [keys.publicKey.subarray(1), Uint8Array.from([...keys.publicKey, 0]), new Uint8Array(0)]) {
      expect(() => sending.encapsulate(key), `a key of ${key.length} bytes`).toThrow(handshake)
    }
    for (const wrong of [ciphertext.subarray(1), Uint8Array.from([...ciphertext, 0]), new Uint8Array(0)]) {
      expect(() => keys.decapsulate(wrong), `a ciphertext of ${wrong.length} bytes`).toThrow(handshake)
    }
  }
})

test.each([
  ['native agent', nobleSuite, nativeSuite],
  ['native client', nativeSuite, nobleSuite],
])('a session opens between noble and a %s', async (_name, client, agent) => {
  const { session } = await sessionPair({
    suites: { client, agent },
    handlers: {
      async exec(call) {
        call.accept({})
        for await (const item of call.received()) if (item.type === 'data') await call.write(item.bytes)
      },
    },
  })
  const call = await session.open(exec, { argv: ['cat'] })
  const sent = randomBytes(200_000)
  void call.write(sent).then(() => call.end())
  const received: Uint8Array[] = []
  for await (const item of call.received()) if (item.type === 'data') received.push(item.bytes)
  expect(Buffer.concat(received).equals(sent)).toBe(true)
  session.close()
})
