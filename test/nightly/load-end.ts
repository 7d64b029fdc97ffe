/**
 * The load of the nightly run, in a process of its own: messages to a broker from somebody who proves nothing, and sockets that
 * say nothing. Prints a line of JSON with what it sent once it is done. Arguments: port, that of agents, messages, idle sockets, messages a second, connections at once that send them.
 */
import { connect, type Socket } from 'node:net'
import { Random } from '../hostile/random.ts'

const [port = 0, agentPort = 0, messages = 0, idle = 0, perSecond = 0, workers = 0] = process.argv
  .slice(2, 8)
  .map(Number)
/** between two idle sockets that are opened */
const IDLE_PAUSE_MS = 5
/** from which the connections come: who is many has many */
const ADDRESSES = 200
/** messages sent at most for each that is asked for: what stays silent counts for nothing */
const MOST_TRIES = 2
/** ms that a message has for an answer; what gets none is the broker's to hang up on */
const ANSWER_MS = 15_000
const random = new Random('load')
const soon = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

const head = (line: string, ...headers: readonly string[]) => `${[line, 'host: x', ...headers].join('\r\n')}\r\n\r\n`
const post = (path: string, body: string) =>
  head(`POST ${path} HTTP/1.1`, 'content-type: application/json', `content-length: ${body.length}`) + body
const UPGRADE = ['connection: Upgrade', 'upgrade: websocket', 'sec-websocket-version: 13']
const KEY = 'sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ=='
const token = () => Buffer.from(random.bytes(32)).toString('base64url')
const upgrade = (path: string, ...more: readonly string[]) => head(`GET ${path} HTTP/1.1`, ...UPGRADE, KEY, ...more)

const joined = (text: string, bytes: Uint8Array) => Buffer.concat([Buffer.from(text), bytes])

type Message = readonly [wanted: number, make: () => string | Uint8Array]

/** How often each comes of a hundred. What is well-formed HTTP keeps its connection; the rest costs one each. */
const MESSAGES: readonly Message[] = [
  [46, () => head('GET /v1/vms HTTP/1.1', `authorization: Bearer ${token()}`)],
  [12, () => post('/v1/login/challenge', JSON.stringify({ user: token() }))],
  [8, () => post('/v1/login', JSON.stringify({ user: token(), nonce: token(), signature: token() }))],
  [8, () => post('/v1/login', '{"user":'.repeat(1 + random.below(200)))],
  [4, () => upgrade('/v1/join', `sec-websocket-protocol: mortar.join.v1, mortar.token.${token()}`)],
  [4, () => upgrade('/v1/agent', 'origin: http://elsewhere.example')],
  [3, () => head('GET /v1/agent HTTP/1.1', ...UPGRADE, 'sec-websocket-key: short')],
  [3, () => head('GET /v1/join HTTP/1.1', 'connection: Upgrade', 'upgrade: h2c')],
  // an upgrade that is taken, and behind it a frame that is huge, fragmented for ever, unmasked, or no message of ours
  [2, () => joined(upgrade('/v1/agent'), Uint8Array.from([0x81, 0xff, 0, 0, 0, 1, 0, 0, 0, 0, 1, 2, 3, 4]))],
  [
    2,
    () => joined(upgrade('/v1/agent'), Uint8Array.from(new Array<number[]>(40).fill([0x00, 0x80, 1, 2, 3, 4]).flat())),
  ],
  [2, () => joined(upgrade('/v1/agent'), Uint8Array.from([0x81, 0x02, 0x7b, 0x7d]))],
  [2, () => joined(upgrade('/v1/agent'), Uint8Array.from([0x81, 0x82, 0, 0, 0, 0, 0x7b, 0x7d]))],
  [2, () => random.bytes(1 + random.below(2_000))],
  [2, () => head('GET / HTTP/1.1', `x-long: ${'a'.repeat(20_000)}`)],
]
const drawn = MESSAGES.flatMap(([wanted, make]) => new Array<Message[1]>(wanted).fill(make))

const counts = { sent: 0, answered: 0, closed: 0, silent: 0, refusedConnections: 0, idleOpened: 0, idleMost: 0 }
/** messages that the broker has dealt with */
const dealtWith = () => counts.answered + counts.closed

/** A connection, or null when it was refused. */
function dial(to: number): Promise<Socket | null> {
  return new Promise(resolve => {
    const socket = connect({ port: to, host: '127.0.0.1', localAddress: `127.0.1.${1 + random.below(ADDRESSES)}` })
    socket.once('connect', () => resolve(socket))
    socket.once('error', () => resolve(null))
    socket.on('error', () => undefined)
  })
}

/** Sends one message; true when the connection stays. */
function exchange(socket: Socket, message: string | Uint8Array): Promise<boolean> {
  return new Promise(resolve => {
    const done = (what: 'answered' | 'closed' | 'silent') => {
      counts[what]++
      clearTimeout(timer)
      socket.removeAllListeners('data').removeAllListeners('close')
      resolve(what === 'answered')
    }
    const timer = setTimeout(() => done('silent'), ANSWER_MS)
    socket.once('data', data =>
      done(/^HTTP\/1\.1 (101|4\d\d .*connection: close)/is.test(data.toString('latin1')) ? 'closed' : 'answered'),
    )
    socket.once('close', () => done('closed'))
    counts.sent++
    socket.write(message)
  })
}

/** Half of the workers talk to each listener. */
async function work(to: number): Promise<void> {
  let socket: Socket | null = null
  while (dealtWith() < messages && counts.sent < MOST_TRIES * messages) {
    // each message has its own moment: workers that wake together would send all theirs in one heap
    nextMs = Math.max(nextMs + 1_000 / perSecond, performance.now())
    const aheadMs = nextMs - performance.now()
    if (aheadMs > 0.5) await soon(aheadMs)
    socket ??= await dial(to)
    if (!socket) {
      counts.refusedConnections++
      await soon(10)
      continue
    }
    if (await exchange(socket, random.pick(drawn)())) continue
    socket.destroy()
    socket = null
  }
  socket?.destroy()
}

/** Keeps that many sockets that say nothing, or a byte now and then; those that the broker ends are opened again. */
async function keepIdle(): Promise<void> {
  const held = new Set<Socket>()
  while (!over) {
    const socket = held.size < idle ? await dial(random.below(2) === 0 ? port : agentPort) : null
    if (socket) {
      held.add(socket)
      counts.idleOpened++
      socket.on('close', () => held.delete(socket)).resume()
      if (random.below(4) === 0) socket.write('GET /v1/broker HT')
    }
    counts.idleMost = Math.max(counts.idleMost, held.size)
    for (const socket of held) if (random.below(2_000) === 0) socket.write('T')
    await soon(IDLE_PAUSE_MS)
  }
  for (const socket of held) socket.destroy()
}

let over = false
/** when the next message is due */
let nextMs = 0
const startMs = performance.now()
const idling = keepIdle()
await Promise.all(Array.from({ length: workers }, (_, i) => work(i % 2 === 0 ? port : agentPort)))
over = true
await idling
console.log(JSON.stringify({ ...counts, seconds: (performance.now() - startMs) / 1_000 }))
process.exit(0)
