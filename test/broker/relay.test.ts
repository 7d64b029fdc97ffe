/** Joined pairs over real sockets: tokens, and bytes whole under every cut. SPEC §4 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { LIMITS } from '../../protocol/core/limits.ts'
import { frame, PairRig, upgradeOf } from './pairs.ts'
import type { Rig } from './rig.ts'
import { joinPair, soon } from './sockets.ts'

let pairs: PairRig
let rig: Rig
beforeAll(async () => {
  pairs = await PairRig.start()
  rig = pairs.rig
})
afterAll(() => rig.close())
beforeEach(() => {
  pairs.agent.messages.length = 0
})

describe('tokens', () => {
  test('serve once', async () => {
    const pair = await pairs.tokens()
    const client = await joinPair(rig.broker.origin, pair.client)
    await expect(joinPair(rig.broker.origin, pair.client)).rejects.toThrow('401')
    const joined = await joinPair(rig.broker.origin, pair.agent)
    await expect(joinPair(rig.broker.origin, pair.agent)).rejects.toThrow('401')
    client.socket.close(1000)
    expect(await soon(joined.closed, 'the close')).toEqual({ code: 1000, reason: '' })
  })

  test.each([
    ['that were never given', randomBytes(32).toString('base64url'), '401'],
    ['that are empty', '', '400'],
    ['that are too long', 'A'.repeat(65), '400'],
  ])('%s are refused', async (_what, token, status) => {
    await expect(joinPair(rig.broker.origin, token)).rejects.toThrow(status)
  })

  test('are not given while the agent is away', async () => {
    const { vm } = await rig.launch('away')
    expect((await rig.call('owner', 'vm.session', { id: vm.id, body: { kind: 'channel' } })).code).toBe(
      'vm-unreachable',
    )
  })

  test('an agent that does not come: the client is told vm-unreachable', async () => {
    const pair = await pairs.tokens()
    const client = await joinPair(rig.broker.origin, pair.client)
    rig.clock.advance(LIMITS.joinMs + 1)
    expect(await soon(client.closed, 'the close')).toEqual({ code: 4000, reason: 'vm-unreachable' })
    await expect(joinPair(rig.broker.origin, pair.agent)).rejects.toThrow('401')
  })

  test.each([
    ['ssh-not-authorised', 'ssh-not-authorised'],
    ['an-unknown-code', 'vm-unreachable'],
  ])('an agent that declines with %s: the client is told %s', async (code, reason) => {
    const { session, token } = await rig.api().createSession(pairs.vmId, 'ssh')
    const client = await joinPair(rig.broker.origin, token)
    pairs.agent.send({ type: 'declined', session, code })
    expect(await soon(client.closed, 'the close')).toEqual({ code: 4000, reason })
  })

  test('a client that comes after its session was declined is told why, once', async () => {
    const { session, token } = await rig.api().createSession(pairs.vmId, 'channel')
    pairs.agent.send({ type: 'declined', session, code: 'denied' })
    await new Promise(resolve => setTimeout(resolve, 50))
    const client = await joinPair(rig.broker.origin, token)
    expect(await soon(client.closed, 'the close')).toEqual({ code: 4000, reason: 'denied' })
    await expect(joinPair(rig.broker.origin, token)).rejects.toThrow('401')
  })

  test('are limited for each VM', async () => {
    const ask = (_: unknown, i: number) =>
      rig.call(i % 2 ? 'owner' : 'administrator', 'vm.session', { id: pairs.vmId, body: { kind: 'channel' } })
    const answers = await Promise.all(Array.from({ length: 70 }, ask))
    expect(answers.filter(({ code }) => code === 'rate-limited').length).toBeGreaterThanOrEqual(6)
    rig.clock.advance(LIMITS.joinMs + 1)
    expect((await rig.call('owner', 'vm.session', { id: pairs.vmId, body: { kind: 'channel' } })).status).toBe(200)
    rig.clock.advance(LIMITS.joinMs + 1)
  })
})

describe('bytes', () => {
  test('are carried whole both ways, however the sockets cut them', async () => {
    const pair = await pairs.newPair()
    const pairsEnded = () => rig.log.filter(({ event }) => event === 'pair.ended').length
    const before = pairsEnded()
    const sent: Record<'client' | 'agent', Buffer[]> = { client: [], agent: [] }
    for (let i = 0; i < 300; i++) {
      for (const end of ['client', 'agent'] as const) {
        const message = randomBytes(i % 10 === 0 ? 65_535 : (i * 131) % 5_000)
        sent[end].push(message)
        pair[end].socket.send(message, { mask: true })
      }
      if (i % 7 === 0) pair.client.socket.ping('p')
      if (i % 50 === 0) await new Promise(setImmediate)
    }
    await expect.poll(() => [pair.agent.received.length, pair.client.received.length]).toEqual([300, 300])
    expect(Buffer.concat(pair.agent.received).equals(Buffer.concat(sent.client))).toBe(true)
    expect(Buffer.concat(pair.client.received).equals(Buffer.concat(sent.agent))).toBe(true)
    pair.client.socket.close(1000)
    expect((await soon(pair.agent.closed, 'the close')).code).toBe(1000)
    await expect.poll(pairsEnded).toBe(before + 1)
    const fields = rig.log.filter(({ event }) => event === 'pair.ended').at(-1)?.fields
    // with the headers of the frames
    expect(Number(fields?.toAgent)).toBeGreaterThan(sent.client.reduce((sum, { length }) => sum + length, 0))
  })

  test('that a client sends before the agent is there wait for it', async () => {
    const pair = await pairs.tokens()
    const client = await joinPair(rig.broker.origin, pair.client)
    client.socket.send(Buffer.from('early'))
    const joined = await joinPair(rig.broker.origin, pair.agent)
    await expect.poll(() => joined.received.map(String)).toEqual(['early'])
    client.socket.close()
  })

  test('that come in one write with the upgrade are not lost', async () => {
    const pair = await pairs.tokens()
    const joining = joinPair(rig.broker.origin, pair.agent)
    const socket = pairs.connect()
    socket.write(Buffer.concat([Buffer.from(upgradeOf(pair.client)), frame(Buffer.from('at once'))]))
    const joined = await joining
    await expect.poll(() => joined.received.map(String)).toEqual(['at once'])
    socket.destroy()
  })

  test('the tail of what was sent before a close reaches a slow reader', async () => {
    const pair = await pairs.newPair()
    const sent = randomBytes(65_535)
    pair.agent.socket.pause()
    for (let i = 0; i < 200; i++) pair.client.socket.send(sent)
    pair.client.socket.close(1000)
    await new Promise(resolve => setTimeout(resolve, 300))
    pair.agent.keep = false
    pair.agent.socket.resume()
    expect((await soon(pair.agent.closed, 'the close')).code).toBe(1000)
    expect(pair.agent.receivedBytes).toBe(200 * 65_535)
  })

  test('a ping is answered between frames, never inside one', async () => {
    const { client, agent: joined } = await pairs.pairWithRawClient()
    // half a frame is under way to the agent's end when the agent pings
    const whole = frame(randomBytes(1000))
    client.write(whole.subarray(0, 500))
    await new Promise(resolve => setTimeout(resolve, 30))
    let pongs = 0
    joined.socket.on('pong', () => pongs++)
    for (let i = 0; i < 5; i++) joined.socket.ping(`ping ${i}`)
    await new Promise(resolve => setTimeout(resolve, 30))
    expect(pongs).toBe(0)
    client.write(Buffer.concat([whole.subarray(500), frame(Buffer.from('next'))]))
    await expect.poll(() => joined.received.map(({ length }) => length)).toEqual([1000, 4])
    // one answer, to the latest
    expect(pongs).toBe(1)
    client.destroy()
  })

  test('a peer that pings and does not read gets no more answers than fit', async () => {
    const { client, agent: joined } = await pairs.pairWithRawClient()
    client.pause()
    const pings = Buffer.concat(Array.from({ length: 1000 }, () => frame(randomBytes(125), 9)))
    for (let i = 0; i < 100; i++) {
      if (!client.write(pings)) await soon(new Promise(resolve => client.once('drain', resolve)), 'drain')
    }
    // the broker read them all and holds next to nothing for the client
    client.write(frame(Buffer.from('after them')))
    await expect.poll(() => joined.received.map(String)).toEqual(['after them'])
    client.destroy()
  })
})
