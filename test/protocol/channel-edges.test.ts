/**
 * Edges of the channel that mutation testing found unwatched: what each refusal is called, what is a copy, what is derived,
 * the ends of ranges, the patterns with keys known beforehand. SPEC §2.3, §5, §6
 */
import { hkdfSync } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { describe, expect, test } from 'vitest'
import { CipherState } from '../../protocol/channel/cipher-state.ts'
import { bootWords, comparisonCode } from '../../protocol/channel/comparison.ts'
import { hkdf, launchCommitment, launchSeed } from '../../protocol/channel/derive.ts'
import { Handshake, type HandshakeOptions } from '../../protocol/channel/handshake.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { BACKENDS } from '../support/backends.ts'
import { bothEnds, channelPair } from '../support/bare-end.ts'
import { nameOf, runVector, vectorsOf } from '../support/noise-vector.ts'
import { copiesOf, holdsAnything } from '../support/recording-suite.ts'
import { StillClock } from '../support/still-clock.ts'

const NONE = new Uint8Array(0)
const bytes = (length: number, value = 1) => new Uint8Array(length).fill(value)
const fileOf = (name: string) => readFileSync(new URL(`../vectors/${name}`, import.meta.url), 'utf8')
const thrownBy = (run: () => unknown): MortarError => {
  try {
    run()
  } catch (thrown) {
    return thrown as MortarError
  }
  throw new Error('nothing was thrown')
}
const rejection = (promise: Promise<unknown>): Promise<MortarError> =>
  promise.then(
    () => Promise.reject(new Error('it was taken')),
    (thrown: MortarError) => thrown,
  )

describe('what is derived is what Node derives', () => {
  const derived = (key: Uint8Array, info: string, length: number, salt = NONE) =>
    new Uint8Array(hkdfSync('sha256', key, salt, info, length))

  test.each([1, 31, 32, 33, 64, 8_160])('%d bytes of HKDF, with and without salt', length => {
    for (const salt of [NONE, bytes(7)]) {
      expect(hkdf(suite, bytes(40, 3), salt, 'info', length)).toEqual(derived(bytes(40, 3), 'info', length, salt))
    }
  })

  test.each([0, 8_161])('not %d bytes, and the refusal says how many there may be', length => {
    expect(() => hkdf(suite, bytes(32), NONE, 'info', length)).toThrow(
      new RangeError(`HKDF gives 1 to 8160 bytes, not ${length}`),
    )
  })

  test('the launch seed and its commitment, whose seed is wiped', async () => {
    const seed = derived(bytes(32, 4), 'mortar enrolment v1', 32)
    expect(launchSeed(suite, bytes(32, 4))).toEqual(seed)
    let commitment: Uint8Array = NONE
    const copies = await copiesOf(seed, () => {
      commitment = launchCommitment(suite, bytes(32, 4))
    })
    expect(commitment).toEqual(signingPublicKey(seed))
    expect(copies.length).toBeGreaterThan(0)
    expect(copies.filter(holdsAnything)).toEqual([])
  })

  const wordsOf = (key: Uint8Array, info: string) => {
    const bits = [...derived(key, info, 9)].map(byte => byte.toString(2).padStart(8, '0')).join('')
    return Array.from({ length: 6 }, (_, i) => wordlist[Number.parseInt(bits.slice(11 * i, 11 * i + 11), 2)]).join(' ')
  }
  test.each([0, 1, 2, 3, 200])('six words of a session and of a boot (%d)', value => {
    const [dh, sign] = [bytes(32, value), bytes(32, value + 1)]
    expect(comparisonCode(suite, dh)).toBe(wordsOf(dh, 'mortar comparison v1'))
    const both = Uint8Array.from([...dh, ...sign])
    expect(bootWords(suite, { agentDh: dh, agentSign: sign })).toBe(wordsOf(both, 'mortar boot words v1'))
  })
})

/** one of each kind of known key, with and without psk, and a hash longer than the protocol's name */
const PICKED = /^Noise_(KK|XX|NN|IK|KNpsk0|NKpsk2|XXpsk3)_25519_(ChaChaPoly_SHA256|AESGCM_SHA256|AESGCM_SHA512)$/
const picked = [...vectorsOf(fileOf('noise.json')), ...vectorsOf(fileOf('noise-patterns.json'))].filter(vector =>
  PICKED.test(nameOf(vector)),
)

describe.each(Object.entries(BACKENDS))('patterns with keys known and unknown, %s', (_name, backend) => {
  test('there are some of each', () => expect(picked.length).toBeGreaterThan(12))
  test.each(picked.map(vector => [nameOf(vector), vector] as const))('%s', (_vectorName, vector) =>
    runVector(vector, backend),
  )
})

describe('a handshake', () => {
  const options = (initiator: boolean, more: Partial<HandshakeOptions> = {}): HandshakeOptions => ({
    suite,
    protocolName: 'Noise_NN_25519_ChaChaPoly_SHA256',
    initiator,
    prologue: NONE,
    ...more,
  })
  const pair = () => [new Handshake(options(true)), new Handshake(options(false))] as const

  test('is complete after its last message and not before, and only then splits', async () => {
    const [initiator, responder] = pair()
    expect(initiator.complete).toBe(false)
    const error = thrownBy(() => initiator.split())
    expect([error.code, error.detail]).toEqual(['internal', 'the handshake is not complete'])
    expect(await responder.read(await initiator.write(NONE))).toEqual(NONE)
    expect(await initiator.read(await responder.write(NONE))).toEqual(NONE)
    expect([initiator.complete, responder.complete]).toEqual([true, true])
    const hash = initiator.hash
    expect(hash).toHaveLength(32)
    expect(initiator.split().hash).toEqual(hash)
    const over = await rejection(initiator.write(NONE))
    expect([over.code, over.detail]).toEqual(['internal', 'the handshake is over'])
  })

  test('copies what is not encrypted yet, both ways', async () => {
    const [initiator, responder] = pair()
    const payload = bytes(5)
    const message = await initiator.write(payload)
    payload.fill(9)
    const read = await responder.read(message)
    expect(read).toEqual(bytes(5))
    message.fill(7)
    expect(read).toEqual(bytes(5))
  })

  test.each([0, 1, 31])('refuses a message of %d bytes, says no more, and keeps the cause', async length => {
    const error = await rejection(pair()[1].read(bytes(length)))
    expect([error.code, error.detail]).toEqual(['handshake', ''])
    expect(error.cause).toMatchObject({ code: 'handshake' })
  })

  test('needs the keys that its pattern names', () => {
    const protocolName = 'Noise_XK_25519_ChaChaPoly_SHA256'
    const error = thrownBy(() => new Handshake(options(true, { protocolName })))
    expect([error.code, error.detail]).toEqual(['internal', 'the pattern needs a key that was not given'])
  })
})

describe('a cipher', () => {
  test.each([0, 15])('takes %d bytes for no record', length => {
    const error = thrownBy(() => new CipherState(suite.algorithms, bytes(32)).open(bytes(length)))
    expect(error.code).toBe('record-invalid')
  })
})

describe('a channel', () => {
  test('knows that the other end hung up, once it did', async () => {
    const { clientChannel, agentChannel } = await channelPair({ suite })
    agentChannel.send(NONE)
    expect(await clientChannel.receive()).toEqual(NONE)
    expect(clientChannel.hungUp).toBe(false)
    agentChannel.close()
    expect(await clientChannel.receive()).toBeNull()
    expect(clientChannel.hungUp).toBe(true)
  })

  test.each([
    ['going-away', 'going-away'],
    ['vm-unreachable', 'connection-lost'],
    ['denied', 'connection-lost'],
  ] as const)('a transport that fails with %s fails it with %s, and without its words', async (given, told) => {
    const { clientEnd, clientChannel } = await channelPair({ suite })
    const cause = new MortarError(given, 'words of the relay')
    clientEnd.receive = () => Promise.reject(cause)
    const error = await rejection(clientChannel.receive())
    expect(error.code).toBe(told)
    if (given === 'going-away') expect(error).toBe(cause)
    else expect([error.detail, error.cause]).toEqual(['', cause])
  })

  test('a handshake that takes too long closes the transport and is a timeout', async () => {
    const clock = new StillClock()
    const { client, clientEnd } = bothEnds({ suite, clock })
    const opening = rejection(SecureChannel.open(client))
    let closed = false
    const close = clientEnd.close
    clientEnd.close = () => {
      closed = true
      close()
    }
    clock.advance(LIMITS.handshakeMs - 1)
    expect([closed, clock.waiting]).toEqual([false, 1])
    clock.advance(1)
    expect(closed).toBe(true)
    const error = await opening
    expect([error.code, error.detail]).toEqual(['timeout', 'handshake'])
    expect(error.cause).toBeInstanceOf(MortarError)
  })
})
