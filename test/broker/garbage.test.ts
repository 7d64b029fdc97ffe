/** Whatever comes in, the broker answers the next one. */
import { randomBytes } from 'node:crypto'
import { connect } from 'node:net'
import fc from 'fast-check'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Agents } from '../../broker/agents/agents.ts'
import { FrameReader } from '../../broker/relay/frames.ts'
import { ROUTES, type RouteName } from '../../protocol/control/api.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import { asMortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Rig } from './rig.ts'
import { ControlEnd, enrolled, joinPair } from './sockets.ts'

let rig: Rig
const faults: unknown[] = []
const note = (fault: unknown) => faults.push(fault)
beforeAll(async () => {
  process.on('uncaughtExceptionMonitor', note)
  rig = await Rig.start()
})
afterAll(async () => {
  process.off('uncaughtExceptionMonitor', note)
  await rig.close()
})

async function expectAlive(): Promise<void> {
  rig.clock.advance(60_000)
  expect((await rig.call('owner', 'vm.list')).status).toBe(200)
  expect((await rig.call(null, 'broker.show')).status).toBe(200)
  expect(faults).toEqual([])
  // nothing of it was a failure inside
  expect(rig.log.filter(({ fields }) => fields.code === 'internal')).toEqual([])
}

/** Sends bytes to both HTTP ports and waits until the broker has closed, or a moment has passed. */
async function throwAt(bytes: Buffer): Promise<void> {
  await Promise.all([rig.broker.origin, rig.broker.agents].map(origin => throwAtPort(origin, bytes)))
}

function throwAtPort(origin: string, bytes: Buffer): Promise<void> {
  const { hostname, port } = new URL(origin)
  return new Promise(resolve => {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined)
    socket.on('close', () => resolve())
    socket.resume()
    socket.write(bytes)
    setTimeout(() => socket.destroy(), 100)
  })
}

test('random bytes at the HTTP port', async () => {
  await Promise.all(Array.from({ length: 100 }, (_, index) => throwAt(randomBytes(1 + index * 37))))
  await expectAlive()
})

test('a connection that says nothing, or never comes to its end, is closed in time', async () => {
  const texts = ['', 'GET /v1/agent HTTP/1.1\r\nHost: x\r\n']
  const each = [rig.broker.origin, rig.broker.agents].flatMap(origin => texts.map(text => ({ origin, text })))
  const lives = each.map(async ({ origin, text }) => {
    const { hostname, port } = new URL(origin)
    const begin = performance.now()
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined)
    socket.resume()
    socket.write(text)
    await new Promise(resolve => socket.once('close', resolve))
    return performance.now() - begin
  })
  for (const ms of await Promise.all(lives)) {
    expect(ms).toBeGreaterThan(LIMITS.authenticationMs - 1_000)
    // a request whose head came may take 30 s
    expect(ms).toBeLessThan(LIMITS.authenticationMs + 15_000)
  }
})

test('bad requests and upgrades', async () => {
  const upgrade = 'Upgrade: websocket\r\nConnection: Upgrade\r\n'
  const key = 'Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n'
  const heads = [
    `GET /v1/agent HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`,
    `GET /v1/agent HTTP/1.1\r\nHost: x\r\n${upgrade}Sec-WebSocket-Version: 99\r\nSec-WebSocket-Key: x\r\n\r\n`,
    `POST /v1/agent HTTP/1.1\r\nHost: x\r\n${upgrade}${key}\r\n`,
    `GET /v1/join HTTP/1.1\r\nHost: x\r\n${upgrade}\r\n`,
    `GET /v1/join HTTP/1.1\r\nHost: x\r\n${upgrade}${key}\r\n`,
    `GET /v1/join HTTP/1.1\r\nHost: x\r\n${upgrade}${key}Sec-WebSocket-Protocol: mortar.join.v1, mortar.token.${'%'.repeat(50)}\r\n\r\n`,
    `GET /elsewhere HTTP/1.1\r\nHost: x\r\n${upgrade}${key}\r\n`,
    `GET http:///%00%ff/ HTTP/1.1\r\nHost: x\r\n${upgrade}${key}\r\n`,
    'CONNECT x:22 HTTP/1.1\r\nHost: x\r\n\r\n',
    'GET /v1/vms/%E0%A4%A HTTP/1.1\r\nHost: x\r\n\r\n',
    `GET /v1/vms/${'../'.repeat(20)}etc/passwd HTTP/1.1\r\nHost: x\r\n\r\n`,
    `GET /v1/broker HTTP/1.1\r\nHost: x\r\nx: ${'y'.repeat(20_000)}\r\n\r\n`,
    'POST /v1/login HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
    'POST /v1/login HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999999\r\n\r\n{',
    'PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n',
  ]
  await Promise.all(heads.map(head => throwAt(Buffer.concat([Buffer.from(head), randomBytes(100)]))))
  await expectAlive()
})

test('a refused upgrade whose peer never closes is closed from here', async () => {
  const { hostname, port } = new URL(rig.broker.origin)
  const socket = connect({ port: Number(port), host: hostname, allowHalfOpen: true })
  socket.on('error', () => undefined)
  socket.resume()
  socket.write('GET /x HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n')
  await new Promise(resolve => socket.once('end', resolve))
  // writing to a socket that is wholly closed at the other end fails
  await expect
    .poll(() => {
      socket.write('more')
      return socket.destroyed
    })
    .toBe(true)
})

test('random bodies at every route', async () => {
  const token = await rig.token('administrator')
  for (const route of Object.keys(ROUTES) as RouteName[]) {
    if (ROUTES[route].method === 'GET' || route === 'brick.delete') continue
    const bodies = [
      randomBytes(50),
      Buffer.from('{"__proto__":{"x":1}}'),
      Buffer.from('[[[[[['),
      Buffer.from(encodeCbor({ options: 1 })),
      Buffer.from('null'),
      Buffer.alloc(0),
    ]
    for (const body of bodies) {
      rig.clock.advance(1_000)
      const { status, code } = await rig.call(null, route, { id: '\u0000%00', token, body: new Uint8Array(body) })
      expect([route, status >= 400 && status < 500, code !== 'internal']).toEqual([route, true, true])
    }
  }
  await expectAlive()
})

/** well-formed on the outside */
const enrolments = fc.uint8Array({ maxLength: 300 }).map(bytes =>
  JSON.stringify({
    type: 'enrol',
    vm: '11111111-1111-4111-8111-111111111111',
    boot: Buffer.from(bytes).toString('base64url'),
    line: [],
    body: '',
    signature: 'A'.repeat(86),
  }),
)
const messages = fc.oneof(
  enrolments,
  fc.json({ maxDepth: 4 }),
  fc.string({ maxLength: 300, unit: 'binary' }),
  fc
    .record(
      {
        type: fc.constantFrom('enrol', 'ready', 'declined', 'protest', 'offer', '__proto__'),
        body: fc.oneof(
          fc.string(),
          fc.uint8Array({ maxLength: 300 }).map(bytes => Buffer.from(bytes).toString('base64url')),
        ),
        boot: fc.string(),
        signature: fc.oneof(fc.string(), fc.constant('A'.repeat(86))),
        session: fc.oneof(fc.uuid({ version: 4 }), fc.string()),
        code: fc.string(),
      },
      { requiredKeys: ['type'] },
    )
    .map(value => JSON.stringify(value)),
)

test('2,000 random control messages, before and after enrolment', () => {
  const log: string[] = []
  let closed = 0
  const agents = new Agents({
    book: { get: () => undefined, note: () => undefined } as never,
    clock: rig.clock,
    log: {
      info: () => undefined,
      warn: (_event, fields) => log.push(String(fields?.code)),
      error: event => log.push(event),
    },
    brokerId: new Uint8Array(32),
    onEnrolled: () => undefined,
    onDeclined: () => undefined,
  })
  fc.assert(
    fc.property(messages, text => {
      let receive: (text: string) => void = () => undefined
      agents.accept({
        // refusals of one address are logged now and then only
        address: 'host',
        vm: null,
        send: () => undefined,
        onMessage: listener => {
          receive = listener
        },
        onClosed: () => undefined,
        cut: () => undefined,
        close: () => closed++,
      })
      receive(text)
      receive(text)
    }),
    { numRuns: 2_000 },
  )
  // each was closed once, none by a failure inside, and the log is not flooded
  expect(closed).toBe(2_000)
  expect(log.length).toBeLessThan(100)
  expect(log.filter(code => code !== 'enrolment-invalid' && code !== 'protocol-violation')).toEqual([])
})

test('2,000 random messages of an agent that has enrolled, over real sockets', async () => {
  const launch = await rig.launch('hostile')
  const texts = fc.sample(messages, 2_000)
  for (let start = 0; start < texts.length; start += 100) {
    const control = new ControlEnd(rig.broker.agents)
    await control.next('challenge')
    for (const text of texts.slice(start, start + 100)) control.socket.send(text)
    await control.closed
  }
  const control = await enrolled(rig.broker.agents, launch)
  for (const text of texts.slice(0, 100)) control.socket.send(text)
  await control.closed
  await rig.call('owner', 'vm.delete', { id: launch.vm.id })
  await expectAlive()
})

test('2,000 random frames: the reader takes them or says what is wrong', () => {
  const codes = new Set<string>()
  fc.assert(
    fc.property(fc.array(fc.uint8Array({ minLength: 1, maxLength: 64 }), { minLength: 1, maxLength: 6 }), chunks => {
      const reader = new FrameReader({ forward: () => undefined, control: () => undefined })
      try {
        for (const chunk of chunks) reader.push(Buffer.from(chunk))
      } catch (thrown) {
        codes.add(asMortarError(thrown).code)
      }
    }),
    { numRuns: 2_000 },
  )
  codes.delete('limit-exceeded')
  expect([...codes]).toEqual(['protocol-violation'])
})

test('random frames on joined pairs', async () => {
  const launch = await rig.launch('framed')
  const control = await enrolled(rig.broker.agents, launch)
  for (let times = 0; times < 30; times++) {
    const { token } = await rig.api().createSession(launch.vm.id, 'channel')
    const offer = await control.next('offer')
    const [client, agent] = await Promise.all([
      joinPair(rig.broker.origin, token),
      joinPair(rig.broker.origin, offer.token),
    ])
    const raw = (client.socket as unknown as { _socket: import('node:net').Socket })._socket
    // at least one byte that no frame begins with
    raw.write(Buffer.concat([Buffer.from([0x70 | (times & 15)]), randomBytes(20 + times * 50)]))
    expect((await agent.closed).code).toBe(1002)
  }
  rig.clock.advance(LIMITS.joinMs)
  await rig.call('owner', 'vm.delete', { id: launch.vm.id })
  await expectAlive()
})
