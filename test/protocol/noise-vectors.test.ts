/** The published vectors, and every pattern, cipher and hash against the other back end. SPEC §5 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { findPattern, PATTERN_NAMES, parseProtocolName } from '../../protocol/channel/patterns.ts'
import { CIPHERS, HASHES, type HashName, type KeyPair } from '../../protocol/channel/suite.ts'
import { encodeHex } from '../../protocol/core/bytes.ts'
import { BACKENDS } from '../support/backends.ts'
import { nameOf, runVector, vectorsOf } from '../support/noise-vector.ts'

const vectors = vectorsOf(readFileSync(new URL('../vectors/noise.json', import.meta.url), 'utf8'))

test('there are six published vectors', () => expect(vectors).toHaveLength(6))

describe.each(Object.entries(BACKENDS))('%s', (_, backend) => {
  test.each(vectors.map(vector => [nameOf(vector), vector] as const))(
    '%s matches the published vector',
    (_name, vector) => runVector(vector, backend),
  )

  test.each(vectors.map(vector => [nameOf(vector), vector] as const))(
    '%s with one bit changed does not',
    async (_, vector) => {
      const { messages } = vector as { messages: { ciphertext: string }[] }
      for (const index of messages.keys()) {
        const changed = structuredClone(vector) as { messages: { ciphertext: string }[] }
        const message = changed.messages[index] as { ciphertext: string }
        message.ciphertext = `${message.ciphertext.slice(0, -1)}${(Number.parseInt(message.ciphertext.at(-1) ?? '0', 16) ^ 1).toString(16)}`
        await expect(runVector(changed, backend)).rejects.toThrow(`message ${index + 1}`)
      }
    },
  )
})

test.each([
  'Noise_XX_448_ChaChaPoly_SHA256',
  'Noise_XX_25519_AESSIV_SHA256',
  'Noise_XY_25519_ChaChaPoly_SHA256',
  'Noise_XX_25519_ChaChaPoly_MD5',
  'XX',
  '',
])('"%s" is not run', name => expect(() => parseProtocolName(name)).toThrow(RangeError))

/** Each base pattern, plain and with a psk at every place it has. */
const withModifiers = PATTERN_NAMES.flatMap(name => {
  const places = findPattern(name).messages.length
  return [name, ...Array.from({ length: places + 1 }, (_, place) => `${name}psk${place}`)]
})

test(`${withModifiers.length} patterns × ciphers × hashes: both back ends write the same bytes and read each other`, async () => {
  const keys = (seed: number) => new Uint8Array(32).fill(seed)
  for (const pattern of withModifiers) {
    for (const [index, cipher] of CIPHERS.entries()) {
      const hash = Object.keys(HASHES)[(pattern.length + index) % 4] as HashName
      const protocolName = `Noise_${pattern}_25519_${cipher}_${hash}`
      const transcripts = []
      for (const [from, to] of [
        [BACKENDS.noble, BACKENDS.native],
        [BACKENDS.native, BACKENDS.noble],
      ] as const) {
        const pair = (secret: number, backend: typeof from | typeof to): KeyPair =>
          backend.suite.importKeyPair(keys(secret))
        const end = (initiator: boolean) => {
          const backend = initiator ? from : to
          const [mine, ephemeral, theirs] = initiator ? [1, 2, 3] : [3, 4, 1]
          return new Handshake({
            suite: backend.suite,
            algorithms: backend.algorithmsOf(cipher, hash),
            protocolName,
            initiator,
            prologue: keys(9),
            staticKeys: pair(mine, backend),
            ephemeralKeys: pair(ephemeral, backend),
            remoteStatic: pair(theirs, backend).publicKey,
            psks: [keys(7)],
          })
        }
        const [initiator, responder] = [end(true), end(false)]
        const seen: string[] = []
        const { oneWay } = findPattern(pattern)
        for (let turn = 0; !initiator.complete; turn++) {
          const [sender, receiver] = oneWay || turn % 2 === 0 ? [initiator, responder] : [responder, initiator]
          const message = await sender.write(keys(turn))
          seen.push(encodeHex(message))
          expect(encodeHex(await receiver.read(message))).toBe(encodeHex(keys(turn)))
        }
        const [first, second] = [initiator.split(), responder.split()]
        const sealed = first.sending.seal(keys(5))
        expect(encodeHex(second.receiving.open(sealed))).toBe(encodeHex(keys(5)))
        transcripts.push([...seen, encodeHex(sealed), encodeHex(first.hash)].join())
      }
      expect(transcripts[0], protocolName).toBe(transcripts[1])
    }
  }
}, 60_000)
