/**
 * More edges of the channel that mutation testing found unwatched: why it refuses, in the error and its cause; the records of a
 * session; nonces of large counters; what is a copy and what is wiped. SPEC §5, §6
 */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { hkdf } from '../../protocol/channel/derive.ts'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { NONCES } from '../../protocol/channel/nonce.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { REKEY_COUNTER } from '../../protocol/channel/suite.ts'
import { SymmetricState } from '../../protocol/channel/symmetric-state.ts'
import { encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { bothEnds, channelPair } from '../support/bare-end.ts'
import { copiesOf, holdsAnything } from '../support/recording-suite.ts'

const MOST = LIMITS.sessionRecords
/** The real limit takes minutes to reach; test/protocol/session-records.test.ts goes there. */
const limitTo = (records: number) => void Object.assign(LIMITS, { sessionRecords: records })
afterEach(() => limitTo(MOST))

const NONE = new Uint8Array(0)
const bytes = (length: number, value = 1) => new Uint8Array(length).fill(value)
const rejection = (promise: Promise<unknown>): Promise<MortarError> =>
  promise.then(
    () => Promise.reject(new Error('it was taken')),
    (thrown: MortarError) => thrown,
  )
const told = ({ code, detail }: MortarError) => [code, detail]
const causeOf = ({ cause }: MortarError) => told(cause as MortarError)
const NAME = 'Noise_NN_25519_ChaChaPoly_SHA256'

describe('a session', () => {
  test('carries so many records, and the one after them is neither sent nor taken', async () => {
    const { clientChannel, agentChannel, clientEnd } = await channelPair({ suite })
    limitTo(3)
    const packets: Uint8Array[] = []
    clientEnd.send = packet => void packets.push(packet)
    for (let i = 0; i < 3; i++) clientChannel.send(bytes(3))
    expect(() => clientChannel.send(NONE)).toThrow(new MortarError('connection-lost', 'the session is used up'))
    expect(packets).toHaveLength(3)
    expect(agentChannel.hungUp).toBe(false)
  })

  test('does not open a record beyond them, and says why', async () => {
    const { clientChannel, agentChannel, agentEnd } = await channelPair({ suite })
    limitTo(3)
    for (let i = 0; i < 3; i++) {
      clientChannel.send(bytes(3))
      expect(await agentChannel.receive()).toHaveLength(3)
    }
    agentEnd.receive = async () => bytes(19)
    const error = await rejection(agentChannel.receive())
    expect([told(error), causeOf(error)]).toEqual([
      ['record-invalid', ''],
      ['limit-exceeded', 'records'],
    ])
  })

  test('gives back the memory of a record once it is read', async () => {
    const { clientChannel, agentChannel, agentEnd } = await channelPair({ suite })
    let packet = NONE
    const receive = agentEnd.receive
    agentEnd.receive = async () => {
      packet = (await receive.call(agentEnd))?.slice() ?? NONE
      return packet
    }
    clientChannel.send(bytes(60_000))
    expect(await agentChannel.receive()).toHaveLength(60_000)
    expect(packet).toHaveLength(0)
  })

  test('sends no record that is too long', async () => {
    const { clientChannel } = await channelPair({ suite })
    const tooLong = bytes(LIMITS.recordPlaintextBytes + 1)
    expect(() => clientChannel.send(tooLong)).toThrow(new MortarError('limit-exceeded', 'record'))
  })
})

describe('a handshake is refused', () => {
  const silent = () => Promise.withResolvers<never>().promise

  test('by a client whose agent hangs up, or has another Ed25519 key', async () => {
    const gone = bothEnds({ suite })
    gone.clientEnd.receive = async () => null
    expect(told(await rejection(SecureChannel.open(gone.client)))).toEqual([
      'agent-key-mismatch',
      'the other end hung up',
    ])
    const other = bothEnds({ suite })
    SecureChannel.accept({ ...other.agent, agentSign: bytes(32, 77) }).catch(() => undefined)
    expect(told(await rejection(SecureChannel.open(other.client)))).toEqual([
      'agent-key-mismatch',
      'another Ed25519 key',
    ])
  })

  test('as connection-lost, in its own words, when the socket was cut', async () => {
    const cut = bothEnds({ suite })
    const cause = new MortarError('connection-lost', 'cut')
    cut.clientEnd.receive = () => Promise.reject(cause)
    expect(await rejection(SecureChannel.open(cut.client))).toBe(cause)
  })

  test.each<[string, () => Promise<Uint8Array | null>, string, string]>([
    ['hangs up', async () => null, 'handshake', 'the other end hung up'],
    ['sends too much', async () => bytes(LIMITS.handshakeBytes + 1), 'handshake', ''],
  ])('by an agent whose client %s, which alone the cause says', async (_what, receive, code, detail) => {
    const { agent, agentEnd } = bothEnds({ suite })
    agentEnd.receive = receive
    const error = await rejection(SecureChannel.accept(agent))
    expect([told(error), causeOf(error)]).toEqual([
      ['handshake', ''],
      [code, detail],
    ])
  })

  test('by an agent whose client says what is no message', async () => {
    const { agent, client } = bothEnds({ suite })
    const generateKemKeys = () => ({ ...suite.generateKemKeys(), publicKey: bytes(5) })
    SecureChannel.open({ ...client, suite: { ...suite, generateKemKeys } }).catch(() => undefined)
    expect((await rejection(SecureChannel.accept(agent))).cause).toMatchObject({ code: 'handshake' })
  })

  test('by an agent to whom somebody makes first contact with a grant, though they have the launch secret', async () => {
    const { agent, client, clientEnd } = bothEnds({ suite })
    const admitted: unknown[] = []
    const accepting = rejection(SecureChannel.accept({ ...agent, admit: caller => void admitted.push(caller) }))
    const ownerKeys = suite.generateKeyPair()
    await SecureChannel.open({ ...client, ownerKeys, grant: bytes(10) })
    expect(causeOf(await accepting)).toEqual(['handshake', 'no grant'])
    expect(admitted).toEqual([])
    clientEnd.receive = silent
  })

  test('with all keys wiped once one of its messages was wrong', async () => {
    const ephemeralKeys = suite.generateKeyPair()
    const wipe = vi.spyOn(ephemeralKeys, 'wipe')
    const initiator = new Handshake({ suite, protocolName: NAME, initiator: true, prologue: NONE, ephemeralKeys })
    await initiator.write(NONE)
    expect(wipe).not.toHaveBeenCalled()
    await rejection(initiator.read(bytes(48, 9)))
    expect(wipe).toHaveBeenCalled()
  })
})

describe('the transcript', () => {
  test('does not change with what was given to it or taken from it', async () => {
    const [initiator, responder] = [true, false].map(
      initiator => new Handshake({ suite, protocolName: NAME, initiator, prologue: NONE }),
    ) as [Handshake, Handshake]
    const first = await initiator.write(NONE)
    await responder.read(first)
    first.fill(0)
    const hash = responder.hash
    responder.hash.fill(0)
    expect(responder.hash).toEqual(hash)
    expect(await initiator.read(await responder.write(NONE))).toEqual(NONE)
  })

  test('has no key at first, copies what it does not encrypt, and wipes what it hashed', async () => {
    const state = new SymmetricState(suite.algorithms, NAME)
    expect(state.hasKey).toBe(false)
    const payload = bytes(5)
    expect(state.encryptAndHash(payload)).not.toBe(payload)
    const secret = bytes(32, 0x5a)
    const copies = await copiesOf(secret, () => state.mixHash(secret))
    expect(copies.length).toBeGreaterThan(0)
    expect(copies.filter(copy => copy !== secret && holdsAnything(copy))).toEqual([])
    state.mixKey(bytes(32))
    expect(state.hasKey).toBe(true)
  })
})

describe('a nonce', () => {
  const nonceOf = (cipher: keyof typeof NONCES, counter: number) => {
    const nonce = new Uint8Array(12)
    NONCES[cipher](nonce, counter)
    return [...nonce]
  }
  const COUNTER = 0x01_02_03_04_05

  test('holds all bytes of its counter, and the reserved one is all ones', () => {
    expect(nonceOf('ChaChaPoly', COUNTER)).toEqual([0, 0, 0, 0, 5, 4, 3, 2, 1, 0, 0, 0])
    expect(nonceOf('AESGCM', COUNTER)).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 2, 3, 4, 5])
    for (const cipher of ['ChaChaPoly', 'AESGCM'] as const)
      expect(nonceOf(cipher, REKEY_COUNTER)).toEqual([0, 0, 0, 0, ...Array<number>(8).fill(0xff)])
  })
})

describe('the back end without a host’s cryptography', () => {
  test('says what failed, and keeps the cause', async () => {
    const dh = await rejection(nobleSuite.generateKeyPair().dh(new Uint8Array(32)))
    expect([told(dh), dh.cause instanceof Error]).toEqual([['handshake', 'invalid public key'], true])
    let kem: MortarError | undefined
    try {
      nobleSuite.encapsulate(bytes(5))
    } catch (thrown) {
      kem = thrown as MortarError
    }
    expect(kem && told(kem)).toEqual(['handshake', 'ML-KEM'])
    expect(kem?.cause).toBeInstanceOf(Error)
  })

  test('wipes the copy of a key that it was given', async () => {
    const secret = bytes(32, 0x5b)
    const copies = await copiesOf(secret, () => nobleSuite.importKeyPair(secret).wipe())
    expect(copies.length).toBeGreaterThan(0)
    expect(copies.filter(copy => copy !== secret && holdsAnything(copy))).toEqual([])
  })
})

test('what is derived takes its info as text or as the same bytes', () => {
  const [text, raw] = ['info', encodeText('info')].map(info => hkdf(suite, bytes(32), NONE, info, 32))
  expect(text).toEqual(raw)
})
