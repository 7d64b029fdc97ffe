/** The client's half of the HTTP API against a real server: login, pinning, renewed tokens, and what each failure becomes. */
import { once } from 'node:events'
import { type AddressInfo, connect, createServer } from 'node:net'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { parseBrokerUrl } from '../../client/broker/request.ts'
import { findDrive } from '../../client/drives/drives.ts'
import { wallClock } from '../../client/host/clock.ts'
import { Identity } from '../../client/identity/identity.ts'
import { findVm, printable, waitVm } from '../../client/vms/vm.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { type Answer, refusal, type Script, sampleVm, smallBroker } from './small-broker.ts'

const identity = Identity.create(nobleSuite)
const vm = sampleVm(identity.signKey)
let open: { close(): void }[] = []
beforeEach(() => {
  open = []
})
afterEach(() => {
  for (const broker of open) broker.close()
})

async function start(script: Script, pins = pinsInMemory(), seed?: Uint8Array) {
  const broker = await smallBroker(script, seed)
  open.push(broker)
  return { broker, pins, api: new BrokerApi({ url: broker.url, identity, pins }) }
}

describe('login', () => {
  test('happens by itself, once for calls at the same time, and its token goes along', async () => {
    const { api, broker } = await start({ 'GET /v1/vms': () => ({ json: { vms: [vm] } }) })
    expect(await Promise.all([api.vms(), api.vms()])).toEqual([[vm], [vm]])
    expect(broker.calls.filter(call => call.route === 'POST /v1/login')).toHaveLength(1)
    expect(broker.calls.at(-1)).toMatchObject({ authorization: 'Bearer token-1' })
  })

  test('is renewed once when it expired', async () => {
    const { api, broker } = await start({
      'GET /v1/vms': (_, request) =>
        request.headers.authorization === 'Bearer token-1' ? refusal('login-expired') : { json: { vms: [] } },
    })
    expect(await api.vms()).toEqual([])
    expect(broker.calls.filter(call => call.route === 'POST /v1/login')).toHaveLength(2)
    const never = await start({ 'GET /v1/vms': () => refusal('login-expired') })
    await expect(never.api.vms()).rejects.toMatchObject({ code: 'login-expired' })
  })

  test('pins the broker at the first visit and refuses another one at that address', async () => {
    const { api, broker, pins } = await start({})
    await api.login()
    expect(await pins.read(broker.url)).toEqual(broker.key)
    const other = await start({}, pins, new Uint8Array(32).fill(43))
    await pins.write(other.broker.url, broker.key)
    await expect(other.api.login()).rejects.toMatchObject({ code: 'broker-mismatch' })
    expect(other.broker.calls.map(call => call.route)).not.toContain('POST /v1/login')
    expect(await pins.read(other.broker.url)).toEqual(broker.key)
  })

  test('refuses a broker that names a key it cannot prove, and pins nothing', async () => {
    const honest = await start({})
    const { json } = { json: await (await fetch(`${honest.broker.url}/v1/broker`)).json() }
    const { api, broker, pins } = await start({ 'GET /v1/broker': () => ({ json }) }, undefined, new Uint8Array(32))
    await expect(api.login()).rejects.toMatchObject({ code: 'broker-mismatch' })
    expect(await pins.read(broker.url)).toBeNull()
  })
})

describe('a broker that passes on another one', () => {
  /** Listens at an address that is not plain loopback and leads to the broker, as a man in the middle would. */
  const relay = async (target: string) => {
    const { port } = new URL(target)
    const server = createServer(socket => {
      const onward = connect(Number(port), '127.0.0.1')
      socket.pipe(onward).pipe(socket)
      for (const end of [socket, onward]) end.on('error', () => end.destroy())
    })
    server.listen(0, '127.0.0.2')
    await once(server, 'listening')
    open.push(server)
    return `http://127.0.0.2:${(server.address() as AddressInfo).port}`
  }

  test('gets no signature that logs it in there', async () => {
    const { api, broker, pins } = await start({})
    await api.login()
    const logins = () => broker.calls.filter(call => call.route === 'POST /v1/login').length
    const between = new BrokerApi({ url: await relay(broker.url), identity, pins })
    const refused = between.login()
    await expect(refused).rejects.toMatchObject({ code: 'broker-mismatch' })
    await expect(refused).rejects.toThrow(broker.url)
    expect(logins()).toBe(1)
    // the person knows that both are one
    await pins.write(between.url, broker.key)
    await between.login()
    expect(logins()).toBe(2)
  })
})

describe('a thing asked for by its id', () => {
  const other = { ...vm, id: '44444444-4444-4444-8444-444444444444' }
  test('is not another VM of the same owner', async () => {
    const { api } = await start({ [`GET /v1/vms/${vm.id}`]: () => ({ json: { vm: other } }) })
    await expect(findVm(api, vm.id)).rejects.toMatchObject({ code: 'vm-mismatch' })
    await expect(api.vmChange(vm.id, 1, 100)).rejects.toMatchObject({ code: 'vm-mismatch' })
  })

  test("a name is the user's own before another's, and never one of several", async () => {
    const stranger = { ...other, owner: encodeBase64url(new Uint8Array(32)) }
    const third = { ...stranger, id: '55555555-5555-4555-8555-555555555555' }
    const found = async (...vms: Vm[]) => {
      const { api } = await start({ 'GET /v1/vms': () => ({ json: { vms } }) })
      return (await findVm(api, vm.name)).id
    }
    expect(await found(stranger, vm)).toBe(vm.id)
    expect(await found(stranger)).toBe(stranger.id)
    await expect(found(stranger, third)).rejects.toMatchObject({ code: 'bad-request' })
    await expect(found(vm, other)).rejects.toMatchObject({ code: 'bad-request' })
    await expect(found()).rejects.toMatchObject({ code: 'not-found' })
    const drive = { ...sampleDrive, owner: stranger.owner }
    const { api } = await start({ 'GET /v1/drives': () => ({ json: { drives: [drive, sampleDrive] } }) })
    expect((await findDrive(api, 'data')).owner).toBe(api.user)
  })

  const sampleDrive = {
    id: other.id,
    name: 'data',
    sizeBytes: 1,
    owner: encodeBase64url(identity.signKey),
    note: '',
    attachedTo: null,
    serial: 'ab'.repeat(10),
    createdAt: '2026-01-01T00:00:00Z',
  }
})

describe('failures', () => {
  test.each([
    ['libvirt-down', 'libvirt-down'],
    ['brick-unknown', 'brick-unknown'],
    ['rate-limited', 'rate-limited'],
    ['a-code-of-the-future', 'protocol-violation'],
    ['constructor', 'protocol-violation'],
  ])('the code %s arrives as %s, with its detail', async (sent, code) => {
    const { api } = await start({ 'GET /v1/bricks': () => refusal(sent, 'which thing', 503) })
    await expect(api.bricks()).rejects.toMatchObject({ code })
    if (sent === code) await expect(api.bricks()).rejects.toMatchObject({ detail: 'which thing' })
  })

  const malformed: [string, Answer][] = [
    ['no JSON', { raw: '<html>' }],
    ['an error that is none of ours', { status: 403, json: { message: 'forbidden' } }],
    ['a page in place of a missing path', { status: 404, raw: '<html>' }],
    ['a member that is unknown', { json: { vms: [], more: 1 } }],
    ['a member that is missing', { json: {} }],
    ['a name with control characters', { json: { vms: [{ ...vm, brick: 'a\u001b[2J' }] } }],
    ['more than the limit', { raw: ' '.repeat(34 * 1024 * 1024) }],
  ]
  test.each(malformed)('an answer that is %s is refused', async (_, answer) => {
    const { api } = await start({ 'GET /v1/vms': () => answer })
    await expect(api.vms()).rejects.toMatchObject({ code: 'protocol-violation' })
  })

  const gateways: [string, Answer][] = [
    ['502 with a page', { status: 502, raw: '<html><center>nginx</center></html>' }],
    ['503 with JSON of its own', { status: 503, json: { message: 'no healthy upstream' } }],
    ['504 with nothing', { status: 504, raw: '' }],
  ]
  test.each(gateways)('a proxy that answers %s for the broker is absence', async (_, answer) => {
    const { api } = await start({ 'GET /v1/vms': () => answer })
    await expect(api.vms()).rejects.toMatchObject({ code: 'broker-unreachable' })
    await expect(api.vms()).rejects.toThrow(`answered HTTP ${answer.status}`)
  })

  test('a broker that is not there is broker-unreachable, naming address and reason', async () => {
    const { api, broker } = await start({})
    broker.close()
    const failing = api.info()
    await expect(failing).rejects.toMatchObject({ code: 'broker-unreachable' })
    await expect(failing).rejects.toThrow(`${broker.url} cannot be reached (ECONNREFUSED)`)
  })

  test.each(['broker', 'ftp://host', 'http://user:word@host', 'http://host/?a=b', ''])('"%s" is no broker', url => {
    expect(() => parseBrokerUrl(url)).toThrowError(expect.objectContaining({ code: 'usage' }))
  })
  test('addresses have one form', () => {
    expect(parseBrokerUrl('HTTP://Host:80/')).toBe('http://host')
    expect(parseBrokerUrl('https://host/below/')).toBe('https://host/below')
  })
})

describe('waiting for a VM', () => {
  /** A broker whose VM changes with each long poll. */
  const changing = (...views: Partial<Vm>[]) => {
    let at = 0
    const viewOf = () => ({ json: { vm: { ...vm, ...views[at], revision: at } } })
    return start({
      [`GET /v1/vms/${vm.id}`]: (_, request) => {
        if (request.url?.includes('after=') && at < views.length - 1) at++
        return viewOf()
      },
    })
  }
  const key = encodeBase64url(new Uint8Array(32))
  const agent = {
    generation: 1,
    agentDh: key,
    agentSign: key,
    addresses: [],
    version: '0.1.0',
    connected: true,
    enrolledAt: new Date(0).toISOString(),
  }
  const failure = { stage: 'booting', reason: 'no enrolment', consoleTail: 'line 1\r\n\u001b[31mpanic\u001b[0m' }

  test('reports each change until the goal', async () => {
    const away = { state: 'enrolled', agent: { ...agent, connected: false } } as const
    const { api } = await changing({ state: 'booting' }, { state: 'booting' }, away, { state: 'enrolled', agent })
    const seen: string[] = []
    const options = { goal: 'enrolled', timeoutMs: 5000, onChange: (view: Vm) => seen.push(view.state) } as const
    expect((await waitVm(api, wallClock, vm.id, options)).state).toBe('enrolled')
    // an agent that is away for a moment is waited for
    expect(seen).toEqual(['booting', 'booting', 'enrolled', 'enrolled'])
  })

  test('a VM that never enrolled is vm-silent, with stage and console, without escape sequences', async () => {
    const { api } = await changing({ state: 'booting' }, { state: 'failed', failure })
    const waiting = waitVm(api, wallClock, vm.id, { goal: 'enrolled', timeoutMs: 5000 })
    await expect(waiting).rejects.toMatchObject({
      code: 'vm-silent',
      detail: 'first failed at stage booting: no enrolment\nline 1\npanic',
    })
  })

  test('a VM that went elsewhere is vm-state, one that stays is timeout', async () => {
    const stopped = await changing({ state: 'stopped' })
    const waiting = waitVm(stopped.api, wallClock, vm.id, { goal: 'ready', timeoutMs: 5000 })
    await expect(waiting).rejects.toMatchObject({ code: 'vm-state' })
    const same = { json: { vm: { ...vm, state: 'booting' } }, delayMs: 30 } satisfies Answer
    const slow = await start({ [`GET /v1/vms/${vm.id}`]: () => same })
    const late = waitVm(slow.api, wallClock, vm.id, { goal: 'ready', timeoutMs: 200 })
    await expect(late).rejects.toMatchObject({ code: 'timeout' })
  })
})

test('text from elsewhere cannot steer a terminal or change the order of its letters', () => {
  const hostile = '\u001b]0;title\u0007a\u202eb\u2066c\u009b2Jd\u007f\r\ne\tf'
  expect(printable(hostile)).toBe(']0;titleabc2Jd\ne\tf')
})
