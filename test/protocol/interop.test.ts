/**
 * Our Noise against noise-c, an implementation in C by others (compiled to WebAssembly): both roles, both suites, every
 * pattern of ours that it knows. It predates the psk modifiers, which the published vectors cover.
 */
import createNoise from 'noise-c.wasm'
import { expect, test } from 'vitest'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { concat, encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { Random } from '../hostile/random.ts'

const noise = await new Promise<Parameters<Parameters<typeof createNoise>[0]>[0]>(resolve => createNoise(resolve))
const PATTERNS = ['NN', 'NK', 'NX', 'XN', 'XK', 'XX', 'KN', 'KK', 'KX', 'IN', 'IK', 'IX']
const NONE = new Uint8Array(0)
const prologue = encodeText('mortar interop')
const cases = PATTERNS.flatMap(pattern =>
  (['initiator', 'responder'] as const).flatMap(role =>
    (['noble', 'native'] as const).map(suite => [pattern, role, suite] as const),
  ),
)

function setUp(pattern: string, role: 'initiator' | 'responder', suiteName: 'noble' | 'native') {
  const suite = suiteName === 'noble' ? nobleSuite : nativeSuite
  const random = new Random(`${pattern}/${role}/${suiteName}`)
  const [ours, theirSecret] = [suite.importKeyPair(random.bytes(32)), random.bytes(32)]
  const theirPublic = nobleSuite.importKeyPair(theirSecret).publicKey
  const initiator = role === 'initiator'
  // K as a letter: the key of that end is known beforehand
  const known = { initiator: pattern[0] === 'K', responder: pattern[1] === 'K' }
  const has = { initiator: pattern[0] !== 'N', responder: pattern[1] !== 'N' }
  const other = initiator ? 'responder' : 'initiator'
  const handshake = new Handshake({
    suite,
    protocolName: `Noise_${pattern}_25519_ChaChaPoly_SHA256`,
    initiator,
    prologue,
    staticKeys: has[role] ? ours : undefined,
    remoteStatic: known[other] ? theirPublic : undefined,
  })
  const { NOISE_ROLE_INITIATOR, NOISE_ROLE_RESPONDER } = noise.constants
  const peer = noise.HandshakeState(
    `Noise_${pattern}_25519_ChaChaPoly_SHA256`,
    initiator ? NOISE_ROLE_RESPONDER : NOISE_ROLE_INITIATOR,
  )
  peer.Initialize(prologue, has[other] ? theirSecret : null, known[role] ? ours.publicKey : null, null)
  return { handshake, peer, random, initiator, theirPublic, knows: known[other] || has[other] }
}

test.each(cases)('%s as %s by %s: handshake, hash and records both ways agree', async (...names) => {
  const { handshake, peer, random, initiator, theirPublic, knows } = setUp(...names)
  for (let ourTurn = initiator; !handshake.complete; ourTurn = !ourTurn) {
    const payload = random.bytes(random.below(300))
    const got = ourTurn
      ? peer.ReadMessage(await handshake.write(payload), true)
      : await handshake.read(peer.WriteMessage(payload))
    expect(encodeHex(got)).toBe(encodeHex(payload))
  }
  if (knows) expect(encodeHex(handshake.remoteStatic as Uint8Array)).toBe(encodeHex(theirPublic))
  const hash = peer.GetHandshakeHash()
  const ours = handshake.split()
  expect(encodeHex(ours.hash)).toBe(encodeHex(hash))
  const [sending, receiving] = peer.Split()
  for (let i = 0; i < 20; i++) {
    const plaintext = random.bytes(random.below(2_000))
    expect(encodeHex(receiving.DecryptWithAd(NONE, ours.sending.seal(plaintext)))).toBe(encodeHex(plaintext))
    expect(encodeHex(ours.receiving.open(sending.EncryptWithAd(NONE, plaintext)))).toBe(encodeHex(plaintext))
  }
  expect(() => receiving.DecryptWithAd(NONE, concat(ours.sending.seal(NONE), NONE).fill(1))).toThrow()
})

test('a difference in the prologue is noticed by noise-c as by us', async () => {
  const { peer } = setUp('XX', 'initiator', 'noble')
  const other = new Handshake({
    suite: nobleSuite,
    protocolName: 'Noise_XX_25519_ChaChaPoly_SHA256',
    initiator: true,
    prologue: encodeText('mortar interoP'),
    staticKeys: nobleSuite.generateKeyPair(),
  })
  peer.ReadMessage(await other.write(NONE), true)
  await expect(other.read(peer.WriteMessage(NONE))).rejects.toMatchObject({ code: 'handshake' })
})
