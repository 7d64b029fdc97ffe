/** Joined pairs over real sockets: tokens, ends, pings, bytes whole under every cut. SPEC §4 */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { maskedFrame } from '../support/websocket-frames.ts'
import { type Launch, Rig } from './rig.ts'
import { type ControlEnd, enrolled, type JoinedEnd, joinPair, newBoot, soon } from './sockets.ts'

let rig: Rig
let vmId: string
let launch: Launch
let agent: ControlEnd
const boot = newBoot()
beforeAll(async () => {
  rig = await Rig.start()
  const launched = await rig.launch('joined')
  vmId = launched.vm.id
  launch = launched
  agent = await enrolled(rig.broker.origin, launch, boot)
})
afterAll(() => rig.close())
beforeEach(() => {
  agent.messages.length = 0
})

/** The two tokens of a new pair. */
async function tokens(id = vmId, control = agent) {
  const { token } = await rig.api().createSession(id, 'channel')
  return { client: token, agent: (await control.next('offer')).token }
}

async function newPair(): Promise<{ client: JoinedEnd; agent: JoinedEnd }> {
  const pair = await tokens()
  const [client, joined] = await Promise.all([
    joinPair(rig.broker.origin, pair.client),
    joinPair(rig.broker.origin, pair.agent),
  ])
  return { client, agent: joined }
}

/** One end as a bare socket, which can do what no WebSocket library would. */
async function rawEnd(token: string): Promise<Socket> {
  const { hostname, port } = new URL(rig.broker.origin)
  const socket = connect(Number(port), hostname)
  socket.on('error', () => undefined)
  const answered = new Promise<void>(resolve => socket.once('data', () => resolve()))
  socket.write(
    `GET /v1/join HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n` +
      `Sec-WebSocket-Protocol: ${JOIN_PROTOCOL}, ${JOIN_TOKEN_PREFIX}${token}\r\n\r\n`,
  )
  await soon(answered, 'the upgrade')
  return socket
}

async function pairWithRawClient(): Promise<{ client: Socket; agent: JoinedEnd }> {
  const pair = await tokens()
  const client = await rawEnd(pair.client)
  return { client, agent: await joinPair(rig.broker.origin, pair.agent) }
}

const frame = (payload: Uint8Array, opcode = 2) =>
  maskedFrame(Buffer.from(payload), { opcode, fin: true, mask: 0x01020304 })
const pairsEnded = () => rig.log.filter(({ event }) => event === 'pair.ended').length

describe('tokens', () => {
  test('serve once', async () => {
    const pair = await tokens()
    const client = await joinPair(rig.broker.origin, pair.client)
    await expect(joinPair(rig.broker.origin, pair.client)).rejects.toThrow('401')
    const joined = await joinPair(rig.broker.origin, pair.agent)
    await expect(joinPair(rig.broker.origin, pair.agent)).rejects.toThrow('401')
    client.socket.close(1000)
    expect(await soon(joined.closed, 'the close')).toEqual({ code: 1000, reason: '' })
  })

  test.each([
    ['that were never given', encode(randomBytes(32)), '401'],
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
    const pair = await tokens()
    const client = await joinPair(rig.broker.origin, pair.client)
    rig.clock.advance(LIMITS.joinMs + 1)
    expect(await soon(client.closed, 'the close')).toEqual({ code: 4000, reason: 'vm-unreachable' })
    await expect(joinPair(rig.broker.origin, pair.agent)).rejects.toThrow('401')
  })

  test.each([
    ['ssh-not-authorised', 'ssh-not-authorised'],
    ['an-unknown-code', 'vm-unreachable'],
  ])('an agent that declines with %s: the client is told %s', async (code, reason) => {
    const { session, token } = await rig.api().createSession(vmId, 'ssh')
    const client = await joinPair(rig.broker.origin, token)
    agent.send({ type: 'declined', session, code })
    expect(await soon(client.closed, 'the close')).toEqual({ code: 4000, reason })
  })

  test('a session that is declined before the client comes refuses its token', async () => {
    const { session, token } = await rig.api().createSession(vmId, 'channel')
    agent.send({ type: 'declined', session, code: 'denied' })
    await new Promise(resolve => setTimeout(resolve, 50))
    await expect(joinPair(rig.broker.origin, token)).rejects.toThrow('401')
  })

  test('are limited for each VM', async () => {
    const answers = await Promise.all(
      Array.from({ length: 70 }, () => rig.call('owner', 'vm.session', { id: vmId, body: { kind: 'channel' } })),
    )
    expect(answers.filter(({ code }) => code === 'rate-limited').length).toBeGreaterThanOrEqual(6)
    rig.clock.advance(LIMITS.joinMs + 1)
    expect((await rig.call('owner', 'vm.session', { id: vmId, body: { kind: 'channel' } })).status).toBe(200)
    rig.clock.advance(LIMITS.joinMs + 1)
  })
})

function encode(bytes: Buffer): string {
  return bytes.toString('base64url')
}

describe('bytes', () => {
  test('are carried whole both ways, however the sockets cut them', async () => {
    const pair = await newPair()
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
    await expect
      .poll(() => [pair.agent.received.length, pair.client.received.length], { timeout: 5_000 })
      .toEqual([300, 300])
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
    const pair = await tokens()
    const client = await joinPair(rig.broker.origin, pair.client)
    client.socket.send(Buffer.from('early'))
    const joined = await joinPair(rig.broker.origin, pair.agent)
    await expect.poll(() => joined.received.map(String)).toEqual(['early'])
    client.socket.close()
  })

  test('that come in one write with the upgrade are not lost', async () => {
    const pair = await tokens()
    const joining = joinPair(rig.broker.origin, pair.agent)
    const { hostname, port } = new URL(rig.broker.origin)
    const socket = connect(Number(port), hostname)
    const upgrade =
      `GET /v1/join HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
      `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n` +
      `Sec-WebSocket-Protocol: ${JOIN_PROTOCOL}, ${JOIN_TOKEN_PREFIX}${pair.client}\r\n\r\n`
    socket.write(Buffer.concat([Buffer.from(upgrade), frame(Buffer.from('at once'))]))
    const joined = await joining
    await expect.poll(() => joined.received.map(String)).toEqual(['at once'])
    socket.destroy()
  })

  test('the tail of what was sent before a close reaches a slow reader', async () => {
    const pair = await newPair()
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
    const { client, agent: joined } = await pairWithRawClient()
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
    const { client, agent: joined } = await pairWithRawClient()
    client.pause()
    const pings = Buffer.concat(Array.from({ length: 1000 }, () => frame(randomBytes(125), 9)))
    for (let i = 0; i < 100; i++) {
      if (!client.write(pings)) await soon(new Promise(resolve => client.once('drain', resolve)), 'drain')
    }
    // the broker read them all and holds next to nothing for the client
    client.write(frame(Buffer.from('after them')))
    await expect.poll(() => joined.received.map(String), { timeout: 5_000 }).toEqual(['after them'])
    client.destroy()
  })
})

describe('ends', () => {
  test('a socket that is cut makes the other end abnormally', async () => {
    for (const [cut, other] of [
      ['client', 'agent'],
      ['agent', 'client'],
    ] as const) {
      const pair = await newPair()
      pair[cut].socket.terminate()
      expect((await soon(pair[other].closed, 'the close')).code).toBe(1006)
    }
  })

  test('a socket that only stops sending makes the other end abnormally', async () => {
    const { client, agent: joined } = await pairWithRawClient()
    client.write(frame(Buffer.from('last')))
    client.end()
    expect((await soon(joined.closed, 'the close')).code).toBe(1006)
    expect(joined.received.map(String)).toEqual(['last'])
    await expect.poll(() => client.closed).toBe(true)
  })

  test('a close code and its reason go on to the other end as they are', async () => {
    const pair = await newPair()
    pair.agent.socket.close(4321, 'a reason')
    expect(await soon(pair.client.closed, 'the close')).toEqual({ code: 4321, reason: 'a reason' })
    expect((await soon(pair.agent.closed, 'the answer')).code).toBe(4321)
  })

  test.each([
    ['a text message', frame(Buffer.from('text'), 1)],
    ['reserved bits', Buffer.from([0xc2, 0x80, 0, 0, 0, 0])],
    ['an unmasked frame', Buffer.from([0x82, 0x01, 0x41])],
    ['a message that is too long', frame(Buffer.alloc(65_536))],
    ['random bytes', Buffer.from([0xff, ...randomBytes(200)])],
  ])('%s ends both with 1002', async (_what, bytes) => {
    const { client, agent: joined } = await pairWithRawClient()
    // also right behind a good frame whose second half comes with it
    const good = frame(Buffer.from('good'))
    client.write(good.subarray(0, 7))
    await new Promise(resolve => setTimeout(resolve, 10))
    client.write(Buffer.concat([good.subarray(7), bytes]))
    expect((await soon(joined.closed, 'the close')).code).toBe(1002)
    expect(joined.received.map(String)).toEqual(['good'])
    client.resume()
    await expect.poll(() => client.closed).toBe(true)
  })

  test('a peer that never answers a close, and never closes, is cut off', async () => {
    const { client, agent: joined } = await pairWithRawClient()
    client.pause()
    joined.socket.close(1000)
    await soon(joined.closed, 'the close')
    let gone = false
    client.on('close', () => {
      gone = true
    })
    await new Promise(resolve => setTimeout(resolve, 50))
    rig.clock.advance(5_001)
    client.resume()
    await expect.poll(() => gone).toBe(true)
  })

  test('an agent that reboots takes its pairs along', async () => {
    const pair = await newPair()
    rig.driver.reboot(vmId)
    for (const end of [pair.client, pair.agent]) {
      expect(await soon(end.closed, 'the close')).toEqual({ code: 4000, reason: 'going-away' })
    }
    agent = await enrolled(rig.broker.origin, launch, newBoot(2))
  })

  test('two hundred pairs at once carry their own bytes each', async () => {
    const vms = await Promise.all(Array.from({ length: 4 }, (_, index) => rig.launch(`many-${index}`)))
    const pairs: { client: JoinedEnd; agent: JoinedEnd }[] = []
    for (const each of vms) {
      const control = await enrolled(rig.broker.origin, each)
      for (let i = 0; i < 50; i++) {
        const pair = await tokens(each.vm.id, control)
        const [client, joined] = await Promise.all([
          joinPair(rig.broker.origin, pair.client),
          joinPair(rig.broker.origin, pair.agent),
        ])
        pairs.push({ client, agent: joined })
      }
    }
    for (const [index, { client, agent: joined }] of pairs.entries()) {
      client.socket.send(Buffer.alloc(10_000, index))
      joined.socket.send(Buffer.alloc(5_000, index + 1))
    }
    await expect
      .poll(
        () =>
          pairs.every(({ client, agent: joined }) => client.receivedBytes === 5_000 && joined.receivedBytes === 10_000),
        { timeout: 10_000 },
      )
      .toBe(true)
    for (const [index, { client, agent: joined }] of pairs.entries()) {
      expect(Buffer.concat(joined.received).equals(Buffer.alloc(10_000, index))).toBe(true)
      expect(Buffer.concat(client.received).equals(Buffer.alloc(5_000, index + 1))).toBe(true)
      client.socket.close(1000)
    }
    await Promise.all(pairs.map(({ agent: joined }) => soon(joined.closed, 'the close')))
  }, 15_000)
})
