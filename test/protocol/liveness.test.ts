/** How long a handshake, READY, silence and a session may last, at both ends, to the millisecond. SPEC §5, §6.1, §7.1, §8 */
import { describe, expect, test } from 'vitest'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'
import { decodeFrames, type Frame } from '../../protocol/mux/frame.ts'
import { Mux } from '../../protocol/mux/mux.ts'
import { bareAgent, bothEnds } from '../support/bare-end.ts'
import { frame, record } from '../support/frames.ts'
import { sessionPair } from '../support/session-pair.ts'
import { StillClock, settled } from '../support/still-clock.ts'
import { transportPair } from '../support/transport-pair.ts'

const { pingMs, silenceMs, sessionMs, handshakeMs, acceptMs } = LIMITS
/** how often an end looks */
const CHECK_MS = pingMs / 2

/** The code with which something ended, or `open`. */
function codeOf(ended: Promise<unknown>): { code: string } {
  const seen = { code: 'open' }
  ended.then(
    () => {
      seen.code = 'in order'
    },
    (error: { code: string }) => {
      seen.code = error.code
    },
  )
  return seen
}

const isClosed = (end: Transport) =>
  Promise.race([end.receive().then(packet => packet === null), settled().then(() => false)])

/** One end's multiplexer and what it sent; the other end is the test. */
function muxOf(end: 'client' | 'agent') {
  const [peer, transport] = transportPair()
  const clock = new StillClock()
  const mux = new Mux({
    transport: { ...transport, rekeySending() {}, rekeyReceiving() {} },
    clock,
    ...(end === 'agent' ? { onOpen() {} } : { onReady() {} }),
  })
  if (end === 'client') peer.send(record(frame('ready', 0, Uint8Array.of(0xa0))))
  const ended = codeOf(mux.run())
  const sent: Frame[] = []
  const seen = { closed: false }
  void (async () => {
    for (let packet = await peer.receive(); packet; packet = await peer.receive()) sent.push(...decodeFrames(packet))
    seen.closed = true
  })()
  return { mux, clock, peer, sent, ended, seen, types: () => sent.map(item => item.type) }
}

describe.each(['client', 'agent'] as const)('the %s', end => {
  test('pings an end that was silent for 20 s, and not before', async () => {
    const { clock, types } = muxOf(end)
    await settled()
    await clock.pass(pingMs - 1, CHECK_MS)
    expect(types()).toEqual([])
    await clock.pass(1)
    expect(types()).toEqual(['ping'])
  })

  test('pings nobody who was heard since, whatever was said', async () => {
    const { clock, peer, types } = muxOf(end)
    await clock.pass(CHECK_MS)
    await clock.pass(1)
    peer.send(record(frame('pong', 0)))
    await settled()
    await clock.pass(2 * CHECK_MS - 1, CHECK_MS)
    expect(types()).toEqual([])
    await clock.pass(CHECK_MS)
    expect(types()).toEqual(['ping'])
  })

  test('waits through 60 s of silence', async () => {
    const { clock, peer, ended, seen } = muxOf(end)
    await clock.pass(CHECK_MS)
    peer.send(record(frame('pong', 0)))
    await settled()
    await clock.pass(silenceMs, CHECK_MS)
    expect(ended.code).toBe('open')
    expect(seen.closed).toBe(false)
  })

  test('gives up after more than 60 s of silence: connection-lost', async () => {
    const { clock, peer, ended, seen, mux } = muxOf(end)
    await clock.pass(CHECK_MS - 1)
    peer.send(record(frame('pong', 0)))
    await settled()
    await clock.pass(silenceMs, CHECK_MS)
    expect(ended.code).toBe('open')
    await clock.pass(1)
    expect(ended.code).toBe('connection-lost')
    expect(seen.closed).toBe(true)
    expect(mux.over).toBe(true)
  })

  test('looks every 10 s: what is due just after a look is done at the next one, and a ping repeated at each', async () => {
    const { clock, peer, types, ended } = muxOf(end)
    await clock.pass(CHECK_MS)
    await clock.pass(1)
    peer.send(record(frame('pong', 0)))
    await settled()
    const pings: number[] = []
    // the looks are 10 s apart, less this millisecond
    for (let look = 1; look <= 7; look++) {
      await clock.pass(CHECK_MS - 2)
      pings.push(types().length)
      expect(ended.code).toBe('open')
      await clock.pass(1)
      pings.push(types().length)
      await clock.pass(1)
    }
    expect(pings).toEqual([0, 0, 0, 0, 0, 1, 1, 2, 2, 3, 3, 4, 4, 4])
    expect(ended.code).toBe('connection-lost')
  })

  test('ends a session in order after 24 h, however lively it is', async () => {
    const { clock, peer, sent, ended, types, seen } = muxOf(end)
    const talk = async (ms: number) => {
      for (let left = ms; left > 0; left -= silenceMs) {
        peer.send(record(frame('pong', 0)))
        await clock.pass(Math.min(left, silenceMs), CHECK_MS)
      }
    }
    await talk(sessionMs - 1)
    expect(ended.code).toBe('open')
    expect(types()).not.toContain('goAway')
    await clock.pass(1)
    expect(sent.at(-1)).toMatchObject({ type: 'goAway', body: new Uint8Array(0) })
    expect(ended.code).toBe('in order')
    expect(seen.closed).toBe(true)
  })
})

test('two ends that say nothing keep each other for 24 h and no longer', async () => {
  const clock = new StillClock()
  const { session, served } = await sessionPair({ clock })
  let over = 0
  for (const end of [session.closed, served]) void end.then(() => over++)
  await clock.pass(sessionMs - 1, CHECK_MS)
  expect(over).toBe(0)
  await clock.pass(1)
  expect(over).toBe(2)
})

/** A transport whose line can die without a sign; its close() is not seen at the other end either. */
function mortal(end: Transport, line: { dead: boolean }): Transport {
  const queue = new PacketQueue()
  void (async () => {
    for (let packet = await end.receive(); packet; packet = await end.receive()) if (!line.dead) queue.push(packet)
  })()
  return { ...end, receive: () => queue.take(), close: () => queue.end() }
}

test('both ends notice that the line between them is dead, each for itself', async () => {
  const [clock, line] = [new StillClock(), { dead: false }]
  const through = (client: Transport, agent: Transport): [Transport, Transport] => [
    mortal(client, line),
    mortal(agent, line),
  ]
  const { session, served } = await sessionPair({ clock, through })
  line.dead = true
  const ended = codeOf(Promise.all([session.closed, served]))
  await clock.pass(silenceMs, CHECK_MS)
  expect([ended.code, session.over]).toEqual(['open', false])
  await clock.pass(CHECK_MS, CHECK_MS)
  const lost = { code: 'connection-lost' }
  expect(await Promise.all([session.closed, served])).toMatchObject([lost, lost])
})

describe('a handshake that is not done after 30 s', () => {
  test('is given up by a client whom nobody answers', async () => {
    const clock = new StillClock()
    const { client, agentEnd } = bothEnds({ clock })
    const ended = codeOf(SecureChannel.open(client))
    await settled()
    expect(await agentEnd.receive()).not.toBeNull()
    await clock.pass(handshakeMs - 1)
    expect(ended.code).toBe('open')
    await clock.pass(1)
    expect(ended.code).toBe('timeout')
    expect(await isClosed(agentEnd)).toBe(true)
  })

  test('is given up by an agent to whom nobody speaks', async () => {
    const clock = new StillClock()
    const { agent, clientEnd } = bothEnds({ clock })
    const ended = codeOf(SecureChannel.accept(agent))
    await clock.pass(handshakeMs - 1)
    expect(ended.code).toBe('open')
    await clock.pass(1)
    expect(ended.code).toBe('timeout')
    expect(await isClosed(clientEnd)).toBe(true)
  })

  test('is given up by an agent that got the first message late and no last one', async () => {
    const clock = new StillClock()
    const { client, agent, clientEnd } = bothEnds({ clock })
    let sent = 0
    const first: Transport = {
      ...clientEnd,
      send(packet) {
        if (sent++ === 0) clientEnd.send(packet)
      },
    }
    const ended = codeOf(SecureChannel.accept(agent))
    await clock.pass(handshakeMs - 1)
    await SecureChannel.open({ ...client, transport: first })
    await settled()
    expect(ended.code).toBe('open')
    await clock.pass(1)
    expect(ended.code).toBe('timeout')
  })

  test('is no matter once it is done', async () => {
    const clock = new StillClock()
    const { client, agent } = bothEnds({ clock })
    const [from, to] = await Promise.all([SecureChannel.open(client), SecureChannel.accept(agent)])
    await clock.pass(handshakeMs + 1)
    from.send(Uint8Array.of(1))
    expect(await to.receive()).toEqual(Uint8Array.of(1))
  })
})

test('a client waits 30 s for READY and no longer: timeout', async () => {
  const clock = new StillClock()
  const { channel, opening } = await bareAgent({ clock })
  const ended = codeOf(opening)
  await clock.pass(handshakeMs - 1, CHECK_MS)
  expect(ended.code).toBe('open')
  await clock.pass(1)
  expect(ended.code).toBe('timeout')
  // the agent is told that it is over
  while (await channel.receive());
})

test('an agent that neither accepts nor refuses is waited for a minute, and told', async () => {
  const clock = new StillClock()
  const told = Promise.withResolvers<unknown>()
  const { session } = await sessionPair({
    clock,
    handlers: {
      exec: call => {
        call.signal.addEventListener('abort', () => told.resolve(call.signal.reason))
        return new Promise(() => {})
      },
    },
  })
  const ended = codeOf(session.open(exec, { argv: ['cat'] }))
  await settled()
  await clock.pass(acceptMs - 1, CHECK_MS)
  expect(ended.code).toBe('open')
  await clock.pass(1)
  expect(ended.code).toBe('timeout')
  expect(await told.promise).toMatchObject({ code: 'timeout' })
})
