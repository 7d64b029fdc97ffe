import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { nobleSuite as suite } from '../../protocol/channel/noble-suite.ts'
import { decodeHex, encodeHex } from '../../protocol/core/bytes.ts'

interface Vector {
  protocol_name: string
  handshake_hash?: string
  messages: { payload: string; ciphertext: string }[]
  [member: string]: unknown
}
const { vectors } = JSON.parse(readFileSync(new URL('../vectors/noise.json', import.meta.url), 'utf8')) as {
  vectors: Vector[]
}

function side(vector: Vector, initiator: boolean): Handshake {
  const mine = initiator ? 'init' : 'resp'
  const hex = (member: string) => {
    const value = vector[`${mine}_${member}`]
    return typeof value === 'string' ? decodeHex(value) : undefined
  }
  const keys = (secret: Uint8Array | undefined) => (secret ? suite.importKeyPair(secret) : undefined)
  return new Handshake({
    suite,
    pattern: vector.protocol_name.split('_')[1] ?? '',
    initiator,
    prologue: hex('prologue') ?? new Uint8Array(),
    staticKeys: keys(hex('static')),
    ephemeralKeys: keys(hex('ephemeral')),
    remoteStatic: hex('remote_static'),
    psks: ((vector[`${mine}_psks`] as string[] | undefined) ?? []).map(decodeHex),
  })
}

const ours = vectors.filter(vector => vector.protocol_name.endsWith('_25519_ChaChaPoly_SHA256'))

test('there are published vectors to run', () => expect(ours.length).toBeGreaterThan(0))

test.each(ours.map(vector => [vector.protocol_name, vector] as const))(
  '%s matches the published vector',
  async (name, vector) => {
    const [initiator, responder] = [side(vector, true), side(vector, false)]
    const oneWay = /^Noise_[NKX](psk\d)?_/.test(name)
    let ciphers: { initiator: ReturnType<Handshake['split']>; responder: ReturnType<Handshake['split']> } | undefined
    for (const [index, { payload, ciphertext }] of vector.messages.entries()) {
      const fromInitiator = oneWay || index % 2 === 0
      if (!initiator.complete) {
        const [sender, receiver] = fromInitiator ? [initiator, responder] : [responder, initiator]
        const message = await sender.write(decodeHex(payload))
        expect(encodeHex(message)).toBe(ciphertext)
        expect(encodeHex(await receiver.read(message))).toBe(payload)
        continue
      }
      ciphers ??= { initiator: initiator.split(), responder: responder.split() }
      const { sending } = fromInitiator ? ciphers.initiator : ciphers.responder
      const { receiving } = fromInitiator ? ciphers.responder : ciphers.initiator
      const sealed = sending.seal(decodeHex(payload))
      expect(encodeHex(sealed)).toBe(ciphertext)
      expect(encodeHex(receiving.open(sealed))).toBe(payload)
    }
    ciphers ??= { initiator: initiator.split(), responder: responder.split() }
    if (vector.handshake_hash) expect(encodeHex(ciphers.initiator.hash)).toBe(vector.handshake_hash)
  },
)
