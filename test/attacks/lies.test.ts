/** A lying broker: what is told as done is told on the word of who did it. A real broker behind a proxy that lies, a real agent. SPEC §9.6 */
import { afterAll, afterEach, beforeAll, expect } from 'vitest'
import { openGrant, signGrant } from '../../protocol/control/grant.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { ERRORS, type ErrorCode } from '../../protocol/core/errors.ts'
import { LiedTo } from '../support/lied-to.ts'
import type { Lie } from '../support/lying-proxy.ts'
import type { Outcome } from '../support/program.ts'
import { attack } from './attack.ts'

let world: LiedTo
let vm: string

beforeAll(async () => {
  world = await LiedTo.start()
  vm = (await world.launch('lab')).vm.id
})
afterEach(() => world.proxy.repent())
afterAll(() => world?.close())

const other = () => world.identity('other')
const works = async () => (await world.mortar('other', ['exec', vm, '--', 'echo', 'works'])).stdout === 'works\n'
const errorOf = ({ stderr }: Outcome) => JSON.parse(stderr.trim().split('\n').at(-1) ?? '').error
const refusal = (code: ErrorCode): Lie => ({
  status: ERRORS[code].status,
  json: { error: { code, says: '', detail: '', todo: '', request: 'r' } },
})
const showing = (change: object) => (_: unknown, json: { vm?: object; vms?: object[] }) => ({
  ...json,
  ...(json.vm && { vm: { ...json.vm, ...change } }),
  ...(json.vms && { vms: json.vms.map(shown => ({ ...shown, ...change })) }),
})
const swallowUngrant = ({ method, path }: { method: string; path: string }) =>
  method === 'DELETE' && path.includes('/grants/') ? { json: {} } : undefined
const asked = (method: string, end: string) =>
  world.proxy.asked.some(request => request.method === method && request.path.endsWith(end))

/** The owner, on another device whose clock is ten minutes ahead, gives the same grant again. */
async function grantElsewhere(): Promise<void> {
  const { owner, other: grantee } = world.rig.people
  const [given = ''] = (await world.rig.vm(vm)).grants
  const grant = { ...openGrant(decodeBase64url(given), owner.signKey), serial: Date.now() + 600_000 }
  const signed = encodeBase64url(owner.withSigningSeed(seed => signGrant(grant, seed)))
  await world.rig.call('owner', 'vm.ungrant', { id: vm, grantee: encodeBase64url(grantee.signKey) })
  expect(await world.rig.call('owner', 'vm.grant', { id: vm, body: { grant: signed } })).toMatchObject({ status: 200 })
}

attack(
  'a broker that swallows the end of a grant and says that the VM is stopped does not make a revocation look done',
  { tries: 2, timeoutMs: 900_000 },
  async number => {
    await world.must('owner', ['grant', 'create', 'lab', other(), '--allow', 'exec'])
    expect(await works()).toBe(true)
    world.proxy.swallow = asked =>
      swallowUngrant(asked) ?? (number > 0 && asked.path.endsWith('/sessions') ? refusal('vm-unreachable') : undefined)
    if (number === 0) world.proxy.bend = showing({ state: 'stopped' })
    const told = await world.mortar('owner', ['grant', 'revoke', 'lab', other(), '--json'])
    world.proxy.repent()
    const stillWorks = await works()
    expect([told.code === 0, stillWorks]).not.toEqual([true, true])
    expect([told.code, errorOf(told)]).toMatchObject([7, { code: 'unconfirmed', known: { revokedInVm: null } }])
    await world.must('owner', ['grant', 'revoke', 'lab', other()])
    expect(await works()).toBe(false)
  },
)

attack(
  'a grant that the broker hides, signed on a device whose clock is ahead, does not outlive a revocation',
  { tries: 2, timeoutMs: 900_000 },
  async number => {
    await world.must('owner', ['grant', 'create', 'lab', other(), '--allow', 'exec'])
    expect(await works()).toBe(true)
    await grantElsewhere()
    // used before it is taken back, and not used
    if (number === 0) expect(await works()).toBe(true)
    world.proxy.swallow = swallowUngrant
    world.proxy.bend = showing({ grants: [] })
    await world.must('owner', ['grant', 'revoke', 'lab', other()])
    world.proxy.repent()
    expect(await works()).toBe(false)
  },
)

attack('a grant that the broker hides is shown to the owner by the VM that took it', { tries: 1 }, async () => {
  await world.rig.call('owner', 'vm.ungrant', { id: vm, grantee: encodeBase64url(world.rig.people.other.signKey) })
  await world.must('owner', ['grant', 'create', 'lab', other(), '--allow', 'exec'])
  expect(await works()).toBe(true)
  world.proxy.bend = showing({ grants: [] })
  const { grants } = JSON.parse(await world.must('owner', ['grant', 'list', 'lab', '--json']))
  expect(grants).toMatchObject([{ standing: 'hidden', key: encodeBase64url(world.rig.people.other.signKey) }])
  expect(await world.must('owner', ['grant', 'list', 'lab'])).toContain('TOOK ONE that the broker does not show')
})

attack(
  'a broker that says that a VM is away makes nobody stop or delete it with drives that may be open',
  { tries: 2, timeoutMs: 900_000 },
  async number => {
    const verb = number === 0 ? 'stop' : 'delete'
    world.proxy.asked.splice(0)
    if (number === 0) {
      const { agent } = await world.rig.vm(vm)
      world.proxy.bend = showing({ agent: { ...agent, connected: false } })
    }
    world.proxy.swallow = ({ method, path }) => {
      if (path.endsWith('/sessions')) return refusal('vm-unreachable')
      if (path.endsWith('/stop') || (method === 'DELETE' && path.endsWith(vm))) return { json: {} }
      return undefined
    }
    const told = await world.mortar('owner', ['vm', verb, 'lab', '--yes', '--json'])
    expect([told.code, errorOf(told)]).toMatchObject([7, { code: 'unconfirmed', known: { drivesLocked: null } }])
    expect(asked('POST', '/stop') || asked('DELETE', vm)).toBe(false)
  },
)

attack('a broker that calls a VM ready, of which nothing runs, does not make it look ready', { tries: 1 }, async () => {
  const { ticket } = world.rig.sign()
  const launched = await world.rig.post(world.rig.sign({ ...ticket }), 'hollow')
  expect(launched.status).toBe(200)
  const agent = (await world.rig.vm(vm)).agent
  world.proxy.bend = showing({ state: 'ready', agent })
  const told = await world.mortar('owner', ['vm', 'wait', 'hollow', '--timeout', '5', '--json'])
  expect([told.code === 0, told.stdout]).toEqual([false, ''])
})

attack('a broker that calls a VM stopped is named as the one who says so', { tries: 1 }, async () => {
  world.proxy.swallow = ({ path }) => (path.endsWith('/stop') ? { json: {} } : undefined)
  world.proxy.bend = (request, json) => (asked('POST', '/stop') ? showing({ state: 'stopped' })(request, json) : json)
  const { stdout } = await world.mortar('owner', ['vm', 'stop', 'lab', '--yes', '--json'])
  expect(JSON.parse(stdout)).toMatchObject({ word: 'broker', drives: { word: 'vm', locked: [] } })
  const text = await world.must('owner', ['vm', 'show', 'lab'])
  expect(text).toMatch(/^state: +stopped, says the broker$/m)
})

attack('the words of a session are not offered as proof against who serves the console log', { tries: 1 }, async () => {
  // whoever passes the log on can write any words into it, and so the command does not send anybody there
  const { stdout } = await world.mortar('owner', ['vm', 'verify', 'lab'])
  const [words = ''] = stdout.match(/\b[a-z]+( [a-z]+){5}\b/) ?? []
  world.proxy.swallow = ({ path }) =>
    path.endsWith('/log') ? { json: { console: `session.opened ${words}` } } : undefined
  expect(await world.must('owner', ['vm', 'logs', 'lab'])).toContain(words)
  expect(stdout).toMatch(/what the broker shows, and proves nothing against the broker/)
  expect(stdout).toMatch(/lab proved/)
})

attack(
  'another’s VM is stopped and deleted by its id alone, and nothing without being asked',
  { tries: 2, timeoutMs: 900_000 },
  async number => {
    const verb = number === 0 ? 'stop' : 'delete'
    world.proxy.asked.splice(0)
    const [named, unasked] = [
      await world.mortar('administrator', ['vm', verb, 'lab', '--yes', '--json']),
      await world.mortar('owner', ['vm', verb, 'lab', '--json']),
    ]
    expect([named.code, errorOf(named).detail]).toEqual([2, expect.stringContaining(vm)])
    expect([unasked.code, errorOf(unasked)]).toMatchObject([
      2,
      { code: 'usage', detail: expect.stringContaining('--yes') },
    ])
    expect(asked('POST', '/stop') || asked('DELETE', vm)).toBe(false)
  },
)
