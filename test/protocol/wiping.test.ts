/** What is over is wiped: handshakes that end well or badly, sessions, keys that were replaced, secrets on their way. */
import { describe, expect, test } from 'vitest'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { driveUnlock } from '../../protocol/commands/drives.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { newSecret } from '../../protocol/core/secret.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { Mux, type RecordTransport } from '../../protocol/mux/mux.ts'
import type { Stream } from '../../protocol/mux/stream.ts'
import { offerSecret, type SealContext, sealToOffer } from '../../protocol/secret-offer.ts'
import { BACKENDS } from '../support/backends.ts'
import { copiesOf, holdsAnything, recordingSuite } from '../support/recording-suite.ts'
import { facts, sessionPair, wallClock } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'

const agentSign = new Uint8Array(32).fill(8)
const planted = () => newSecret(64).fill(0xa7)
const clock = { now: () => 0, after: () => () => undefined }

/** A transport that closes instead of sending its `last`th packet. */
function cutting(transport: Transport, last?: number): Transport {
  let sent = 0
  const send = (packet: Uint8Array) => (++sent === last ? transport.close() : transport.send(packet))
  return { ...transport, send }
}

describe.each(Object.entries(BACKENDS))('with %s', (_, { suite: real }) => {
  interface Ends {
    readonly agentSecret?: Uint8Array
    readonly admit?: () => void
    /** that packet of the end's, counted from 1, does not go: the end's transport closes instead */
    readonly cut?: { readonly client?: number; readonly agent?: number }
  }

  /** Both ends of a channel, each with a recording suite; their long-lived keys are not recorded. */
  function ends({ agentSecret, admit = () => {}, cut = {} }: Ends = {}) {
    const [client, agent] = [recordingSuite(real), recordingSuite(real)]
    const [clientEnd, agentEnd] = transportPair()
    const [ownerKeys, agentKeys] = [real.generateKeyPair(), real.generateKeyPair()]
    const launchSecret = newSecret(32).fill(3)
    const common = { clock: wallClock, facts }
    const accepted = SecureChannel.accept({
      ...common,
      transport: cutting(agentEnd, cut.agent),
      suite: agent.suite,
      agentKeys,
      agentSign,
      ownerDh: ownerKeys.publicKey,
      launchSecret: agentSecret ?? launchSecret,
      admit,
    })
    const opened = SecureChannel.open({
      ...common,
      transport: cutting(clientEnd, cut.client),
      suite: client.suite,
      ownerKeys,
      agent: { dh: agentKeys.publicKey, sign: agentSign },
      contact: { kind: 'first', launchSecret },
    })
    return { client, agent, opened, accepted }
  }

  test('an open channel holds its two keys and nothing else, a closed one nothing', async () => {
    const { client, agent, opened, accepted } = ends()
    const channels = await Promise.all([opened, accepted])
    for (const end of [client, agent]) {
      expect(end.left()).toEqual(['AEAD', 'AEAD'])
      expect(end.moving()).toEqual([])
      expect(end.count('result of DH')).toBeGreaterThan(0)
      expect(end.count('KEM secret')).toBe(1)
    }
    for (const channel of channels) channel.close()
    expect([client.left(), agent.left()]).toEqual([[], []])
  })

  test('the key before a rekey is forgotten, and so is what the next one was made of', async () => {
    const { client, agent, opened, accepted } = ends()
    const [from, to] = await Promise.all([opened, accepted])
    from.rekeySending()
    to.rekeyReceiving()
    for (const end of [client, agent]) {
      expect(end.count('next key')).toBe(1)
      expect(end.left()).toEqual(['AEAD', 'AEAD'])
      expect(end.moving()).toEqual([])
    }
    from.close()
    to.close()
  })

  test('a record that does not open leaves no keys at the end that saw it', async () => {
    const { client, agent, opened, accepted } = ends()
    const [from, to] = await Promise.all([opened, accepted])
    from.rekeySending()
    from.send(new Uint8Array(10))
    await expect(to.receive()).rejects.toMatchObject({ code: 'record-invalid' })
    expect(agent.left()).toEqual([])
    from.close()
    expect(client.left()).toEqual([])
  })

  test('a handshake with another launch secret leaves nothing at the agent', async () => {
    const { client, agent, opened, accepted } = ends({ agentSecret: newSecret(32).fill(4) })
    await expect(accepted).rejects.toMatchObject({ code: 'handshake' })
    expect(agent.left()).toEqual([])
    // the initiator was done with its last message
    ;(await opened).close()
    expect(client.left()).toEqual([])
  })

  test('a caller who is not admitted leaves nothing at the agent', async () => {
    const refuse = () => {
      throw new Error('not this one')
    }
    const { client, agent, opened, accepted } = ends({ admit: refuse })
    await expect(accepted).rejects.toMatchObject({ code: 'handshake' })
    expect(agent.left()).toEqual([])
    ;(await opened).close()
    expect(client.left()).toEqual([])
  })

  test.each([
    ['first', { client: 1 }],
    ['second', { agent: 1 }],
    ['last', { client: 2 }],
  ])('a handshake that is cut off before its %s message leaves nothing', async (_name, cut) => {
    const { client, agent, opened, accepted } = ends({ cut })
    const [atClient, atAgent] = await Promise.allSettled([opened, accepted])
    expect(atAgent).toMatchObject({ status: 'rejected', reason: { code: 'handshake' } })
    expect(agent.left()).toEqual([])
    // the client, done with its last message, does not know yet
    if (atClient.status === 'fulfilled') atClient.value.close()
    expect(client.left()).toEqual([])
  })

  const contextOf = (suite: SealContext['suite']): SealContext => ({
    suite,
    clock,
    bindingHash: new Uint8Array(32),
    vm: facts.vm,
  })

  test('the inner seal of a secret leaves nothing at either end but the secret', async () => {
    const [client, agent] = [recordingSuite(real), recordingSuite(real)]
    const opening = new Uint8Array(5)
    const offer = offerSecret(contextOf(agent.suite), opening)
    const sealed = await sealToOffer(contextOf(client.suite), opening, offer.publicKey, planted())
    expect(client.left()).toEqual([])
    expect(await offer.open(sealed)).toEqual(planted())
    expect(agent.left()).toEqual([])
    expect([...client.moving(), ...agent.moving()]).toEqual([])
  })

  test('what does not seal or open leaves no key of the inner seal', async () => {
    const [client, agent] = [recordingSuite(real), recordingSuite(real)]
    const context = contextOf(agent.suite)
    await expect(
      sealToOffer(contextOf(client.suite), new Uint8Array(5), new Uint8Array(32), planted()),
    ).rejects.toThrow()
    expect(client.left()).toEqual([])
    const offer = offerSecret(context, new Uint8Array(5))
    const sealed = await sealToOffer(contextOf(client.suite), new Uint8Array(6), offer.publicKey, planted())
    await expect(offer.open(sealed)).rejects.toMatchObject({ code: 'secret-invalid' })
    let now = 0
    const late = offerSecret({ ...context, clock: { ...clock, now: () => now } }, new Uint8Array(5))
    now = LIMITS.offerMs + 1
    await expect(late.open(sealed)).rejects.toMatchObject({ code: 'timeout' })
    expect(agent.left()).toEqual([])
  })
})

test('a psk whose turn never came is wiped with its handshake', () => {
  const psk = newSecret(32).fill(5)
  const suite = BACKENDS.native.suite
  const remoteStatic = suite.generateKeyPair().publicKey
  const protocolName = 'Noise_XKpsk3_25519_ChaChaPoly_SHA256'
  const handshake = new Handshake({ suite, protocolName, initiator: true, prologue: new Uint8Array(0), remoteStatic })
  handshake.addPsk(psk)
  handshake.wipe()
  expect(holdsAnything(psk)).toBe(false)
})

test('a command wipes the secret that it sent, and the sealed one that it received', async () => {
  const { suite } = BACKENDS.native
  const received: Uint8Array[] = []
  const aead: typeof suite.algorithms.aead = key => {
    const real = suite.algorithms.aead(key)
    const openSecret: typeof real.openSecret = (counter, associated, ciphertext) => {
      received.push(ciphertext)
      return real.openSecret(counter, associated, ciphertext)
    }
    return { ...real, openSecret }
  }
  const agent = { ...suite, algorithms: { ...suite.algorithms, aead } }
  const { session } = await sessionPair({
    suites: { client: suite, agent },
    handlers: {
      'drive-unlock': async call => {
        call.accept({})
        expect(await call.secret()).toEqual(planted())
        call.post('done', { mountPoint: '/drives/data', sizeBytes: 1, freeBytes: 1, readOnly: false })
      },
    },
  })
  const params = { drive: facts.vm, serial: '0123456789abcdef0123', headerDigest: new Uint8Array(32) }
  const call = await session.open(driveUnlock, { ...params, mountName: 'data', readOnly: false })
  const secret = planted()
  await call.sendSecret(secret)
  for await (const item of call.received()) expect(item.type).toBe('message')
  expect(holdsAnything(secret)).toBe(false)
  expect(received).toHaveLength(1)
  expect(received.filter(holdsAnything)).toEqual([])
  session.close()
})

/** Takes records and hands out those that it is given; keeps hold of both. */
function recordKeeper(...incoming: Uint8Array[]) {
  const sent: Uint8Array[] = []
  const transport: RecordTransport = {
    send: record => void sent.push(record),
    receive: async () => incoming.shift() ?? null,
    drained: () => Promise.resolve(),
    close: () => undefined,
    rekeySending: () => undefined,
    rekeyReceiving: () => undefined,
  }
  return { sent, transport }
}

test('a record that carried a secret is wiped once it is sealed, and so is what was handed in', () => {
  const { sent, transport } = recordKeeper()
  const body = planted()
  new Mux({ transport, clock }).sendSecretFrame(1, body)
  expect(sent).toHaveLength(1)
  expect(sent[0]).toHaveLength(8 + body.length)
  expect(sent.filter(holdsAnything)).toEqual([])
  expect(holdsAnything(body)).toBe(false)
})

/** An agent's multiplexer to which a secret came that nobody has read; `records` are those it came in. */
async function receiving(use: (stream: Stream) => void) {
  const sender = recordKeeper()
  const records: Uint8Array[] = []
  sender.transport.send = record => void records.push(record.slice())
  const client = new Mux({ transport: sender.transport, clock })
  client.openStream(Uint8Array.of(1))
  client.sendSecretFrame(1, planted())
  expect(records.map(record => record.length)).toEqual([8 + 1, 8 + 64])
  const { transport } = recordKeeper(...records)
  const opened = Promise.withResolvers<Stream>()
  const copies = await copiesOf(planted(), async () => {
    const ended = Promise.withResolvers<void>()
    const next = transport.receive
    // the session goes on until `use` is done
    transport.receive = async () => (await next()) ?? ended.promise.then(() => null)
    const running = new Mux({ transport, clock, onOpen: stream => opened.resolve(stream) }).run().catch(() => undefined)
    const stream = await opened.promise
    await new Promise(resolve => setTimeout(resolve, 5))
    use(stream)
    ended.resolve()
    await running
  })
  return { record: records[1] as Uint8Array, copies }
}

test.each<[string, (stream: Stream) => void]>([
  ['its session ends', () => undefined],
  ['its stream is reset', stream => stream.reset('internal')],
  ['nobody listens to its stream any more', stream => stream.discard()],
])('a secret that nobody read is wiped when %s, and its record at once', async (_name, use) => {
  const { record, copies } = await receiving(use)
  expect(holdsAnything(record.subarray(8))).toBe(false)
  expect(copies).toHaveLength(1)
  expect(copies.filter(holdsAnything)).toEqual([])
})
