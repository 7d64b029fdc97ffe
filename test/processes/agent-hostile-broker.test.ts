/** A broker that lies and floods, against a real agent: it is left, and the agent lives on. */
import { randomUUID } from 'node:crypto'
import type { Socket } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { WebSocket } from 'ws'
import { info } from '../../protocol/commands/info.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

let broker: StandInBroker
let agent: AgentProcess

beforeEach(async () => {
  broker = await StandInBroker.start()
  agent = new AgentProcess(broker).start()
  await agent.saw('enrolled')
})
afterEach(async () => {
  await agent.remove()
  broker.close()
})

const control = () => broker.control as WebSocket

test('a broker that asks without end and takes no answer is left', async () => {
  const before = agent.rssBytes
  const flooded = control()
  const socket = (flooded as unknown as { _socket: Socket })._socket
  socket.pause()
  const token = 'A'.repeat(43)
  for (let i = 0; i < 80_000; i++) {
    if (flooded.readyState !== 1) break
    flooded.send(JSON.stringify({ type: 'offer', session: randomUUID(), token, kind: 'ssh', user: token }))
    if (i % 1_000 === 0) await new Promise(resolve => setTimeout(resolve, 5))
  }
  expect(await agent.saw('control.lost')).toMatchObject({ code: 'connection-lost' })
  expect(agent.rssBytes - before).toBeLessThan(64 * 2 ** 20)
  await broker.enrolments.next(() => true, 1)
  const session = await broker.session()
  expect((await session.open(info, {})).ready.generation).toBe(1)
}, 60_000)

test.each([
  ['binary', () => control().send(Buffer.from('{"type":"challenge"}'))],
  ['no JSON', () => control().send('{')],
  ['too long', () => control().send(' '.repeat(9_000))],
  [
    'a second challenge',
    () => control().send(JSON.stringify({ type: 'challenge', nonce: 'A'.repeat(43), broker: 'A'.repeat(43) })),
  ],
  [
    'another owner later',
    () =>
      control().send(
        JSON.stringify({ type: 'enrolled', owner: 'A'.repeat(43), ownerDh: 'A'.repeat(43), standing: 'current' }),
      ),
  ],
])('a control message that is %s ends the socket and nothing else', async (_name, send) => {
  const session = await broker.session()
  send()
  await broker.enrolments.next(() => true, 1)
  // the session that was there goes on
  expect((await session.open(info, {})).ready.generation).toBe(1)
})

test('sockets on which nobody proves anything take no more than their share, and keep the owner out of nothing', async () => {
  const sockets: WebSocket[] = []
  const open = () => sockets.filter(({ readyState }) => readyState === 1).length
  for (let i = 0; i < LIMITS.unprovenSessions; i++) sockets.push(await broker.offer('channel').socket)
  const session = await broker.session()
  expect((await session.open(info, {})).ready.generation).toBe(1)
  // the oldest went, without a word
  await expect.poll(open).toBe(LIMITS.unprovenSessions - 1)
  const before = new Promise(resolve => sockets[1]?.once('close', resolve))
  expect(sockets[0]?.readyState).toBe(3)
  const flood = Array.from({ length: 40 }, () => broker.offer('channel'))
  for (const offer of flood.slice(-LIMITS.unprovenSessions)) sockets.push(await offer.socket)
  expect(await before).toBe(1006)
  await expect.poll(open).toBe(LIMITS.unprovenSessions)
  expect(broker.messages.all.filter(({ type }) => type === 'declined')).toEqual([])
  expect((await session.open(info, {})).ready.generation).toBe(1)
  expect((await (await broker.session()).open(info, {})).ready.generation).toBe(1)
})

test('a joined socket that says text, too much, or nothing sensible ends alone', async () => {
  const sayings: (string | Buffer)[] = [
    'text',
    Buffer.alloc(70_000),
    Buffer.alloc(5_000),
    Buffer.alloc(1),
    Buffer.alloc(96, 9),
  ]
  for (const saying of sayings) {
    const seen = agent.log.all.length
    const socket = await broker.offer('channel').socket
    socket.send(saying)
    await agent.saw('session.failed', seen)
  }
  const session = await broker.session()
  expect((await session.open(info, {})).ready.generation).toBe(1)
})
