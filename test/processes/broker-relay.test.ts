/** Back-pressure of the relay: a reader that stalls holds up its sender, and the broker keeps next to nothing. */

import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Rig } from '../broker/rig.ts'
import { enrolled, joinPair } from '../broker/sockets.ts'
import { runProgram } from '../support/program.ts'

const MESSAGES = 3_200
const BYTES = 65_535
const STALL_MS = 3_000
const MOST_GROWTH_BYTES = 64 * 2 ** 20

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

const WS = new URL('../../node_modules/ws/wrapper.mjs', import.meta.url).href
/** Both ends run in processes of their own, so that only the broker's memory is measured here. */
const SENDER = `
import { WebSocket } from '${WS}'
const [url, token] = process.argv.slice(1)
const socket = new WebSocket(url, ['mortar.join.v1', 'mortar.token.' + token], { perMessageDeflate: false })
const payload = Buffer.alloc(${BYTES}, 1)
socket.on('open', () => {
  let sent = 0
  const next = () => (sent++ === ${MESSAGES} ? socket.close(1000) : socket.send(payload, next))
  next()
})
socket.on('close', () => process.exit())
`
const READER = `
import { WebSocket } from '${WS}'
const [url, token] = process.argv.slice(1)
const socket = new WebSocket(url, ['mortar.join.v1', 'mortar.token.' + token], { perMessageDeflate: false })
let bytes = 0
socket.on('message', data => { bytes += data.length })
socket.on('open', () => {
  socket.pause()
  setTimeout(() => socket.resume(), ${STALL_MS})
})
socket.on('close', code => {
  console.log(JSON.stringify({ code, bytes }))
  process.exit()
})
`

test('a reader that stalls for 3 s while 200 MiB are sent costs the broker less than 64 MiB', async () => {
  const launch = await rig.launch('slow')
  const control = await enrolled(rig.broker.agents, launch)
  const { token } = await rig.api().createSession(launch.vm.id, 'channel')
  const offer = await control.next('offer')
  const url = `${rig.broker.origin.replace('http', 'ws')}/v1/join`
  const run = (script: string, end: string) =>
    runProgram(process.execPath, ['--input-type=module', '-e', script, '--', url, end], { timeoutMs: 60_000 })
  const before = process.memoryUsage().rss
  let most = 0
  const measuring = setInterval(() => {
    most = Math.max(most, process.memoryUsage().rss - before)
  }, 50)
  // what is sent afterwards at full speed is garbage that awaits its collection, not a queue
  setTimeout(() => clearInterval(measuring), STALL_MS)
  const [reader] = await Promise.all([run(READER, offer.token), run(SENDER, token)])
  console.info(`the broker grew by ${(most / 2 ** 20).toFixed(1)} MiB at most`)
  expect(JSON.parse(reader.stdout)).toEqual({ code: 1000, bytes: MESSAGES * BYTES })
  expect(most).toBeLessThan(MOST_GROWTH_BYTES)
}, 60_000)

test('a million cuts: what is sent in small random pieces arrives as sent', async () => {
  const launch = await rig.launch('cut')
  const control = await enrolled(rig.broker.agents, launch)
  const { token } = await rig.api().createSession(launch.vm.id, 'channel')
  const offer = await control.next('offer')
  const [client, agent] = await Promise.all([
    joinPair(rig.broker.origin, token),
    joinPair(rig.broker.origin, offer.token),
  ])
  // masked, and written to the socket in pieces that have nothing to do with frames
  const raw = (client.socket as unknown as { _socket: import('node:net').Socket })._socket
  const { maskedFrame } = await import('../support/websocket-frames.ts')
  const messages = Array.from({ length: 400 }, (_, i) => randomBytes((i * 977) % 9_000))
  const stream = Buffer.concat(
    messages.map((message, i) => maskedFrame(Buffer.from(message), { opcode: 2, fin: true, mask: i * 7919 })),
  )
  for (let at = 0; at < stream.length; ) {
    const length = 1 + (randomBytes(2).readUInt16BE(0) % 3_000)
    if (!raw.write(stream.subarray(at, at + length))) await new Promise(resolve => raw.once('drain', resolve))
    at += length
    if (at % 3 === 0) await new Promise(setImmediate)
  }
  await expect.poll(() => agent.received.length).toBe(messages.length)
  expect(Buffer.concat(agent.received).equals(Buffer.concat(messages))).toBe(true)
  client.socket.terminate()
})
