/** Grants at the broker: who may leave one, what it opens to its holder, and that it opens nothing more. SPEC §2.7, §3.3 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { RouteName, Vm } from '../../protocol/control/api.ts'
import { type Grant, signGrant } from '../../protocol/control/grant.ts'
import type { Permission } from '../../protocol/control/roles.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { type PersonName, Rig } from './rig.ts'
import { enrolled } from './sockets.ts'

let rig: Rig
let vm: Vm
let count = 0
let serial = 1_000
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())
beforeEach(async () => {
  const launch = await rig.launch(`vm-${count++}`)
  await enrolled(rig.broker.agents, launch)
  vm = launch.vm
})

const keyOf = (name: PersonName) => encodeBase64url(rig.people[name].signKey)
const seconds = () => Math.floor(rig.clock.now() / 1000)
const sign = (more: Partial<Grant> = {}, by: PersonName = 'owner') =>
  encodeBase64url(
    rig.people[by].withSigningSeed(seed =>
      signGrant(
        {
          version: 1,
          vm: vm.id,
          grantee: rig.people.other.signKey,
          granteeDh: rig.people.other.keys.publicKey,
          role: 'manager',
          permissions: ['exec'],
          drives: [],
          targets: [],
          expires: seconds() + 600,
          serial: serial++,
          ...more,
        },
        seed,
      ),
    ),
  )
const put = (grant: string, who: PersonName = 'owner') => rig.call(who, 'vm.grant', { id: vm.id, body: { grant } })
const grant = async (...permissions: Permission[]) => {
  const answer = await put(sign({ permissions }))
  expect(answer.status, answer.code).toBe(200)
  return answer
}
const session = (kind: 'channel' | 'ssh', who: PersonName = 'other') =>
  rig.call(who, 'vm.session', { id: vm.id, body: { kind } })
const listed = async (who: PersonName) => ((await rig.call(who, 'vm.list')).json.vms as Vm[]).map(({ id }) => id)

describe('the holder of a grant', () => {
  test('sees nothing of other grantees, of drives and of events, whatever its rights', async () => {
    const third = encodeBase64url(rig.people.administrator.signKey)
    const drives = await Promise.all(
      ['shown', 'hidden'].map(name =>
        rig.api().createDrive({ id: crypto.randomUUID(), name: `${name}-${vm.name}`, sizeBytes: 2 ** 24, note: '' }),
      ),
    )
    for (const { id } of drives) await rig.api().attachDrive(id, vm.id)
    const { signKey: grantee, keys } = rig.people.administrator
    expect((await put(sign({ grantee, granteeDh: keys.publicKey, serial: serial++ }))).status).toBe(200)
    const [shown, hidden] = drives.map(({ id }) => id) as [string, string]
    for (const [permissions, named, seen] of [
      [[], null, []],
      [['exec', 'info', 'power', 'terminal', 'ssh'], null, []],
      [['drives'], [shown], [shown]],
      [['drives'], null, [shown, hidden]],
    ] as const) {
      const signed = sign({ permissions: [...permissions], drives: named && [...named] })
      expect((await put(signed)).status).toBe(200)
      const view = (await rig.call('other', 'vm.show', { id: vm.id })).json.vm as Vm
      expect([...view.drives].sort()).toEqual([...seen].sort())
      expect([view.events, view.grants]).toEqual([[], [signed]])
      expect(view.agent?.addresses.length).toBe((permissions as readonly string[]).includes('info') ? 1 : 0)
      const { vms } = (await rig.call('other', 'vm.list')).json
      for (const text of [JSON.stringify(view), JSON.stringify(vms)]) {
        expect(text).not.toContain(third)
        expect(text).not.toContain(`hidden-${vm.name}`)
      }
    }
    // the owner sees all of it
    expect(JSON.stringify(await rig.vm(vm.id))).toContain(third)
    for (const { id } of drives) await rig.api().detachDrive(id)
    // nobody holds a grant in the tests that follow
    await rig.api().deleteVm(vm.id)
  })

  test('sees the VM with the own grant alone, and opens channels', async () => {
    expect((await rig.call('other', 'vm.show', { id: vm.id })).code).toBe('not-found')
    const administrator = rig.people.administrator
    await put(sign({ grantee: administrator.signKey, granteeDh: administrator.keys.publicKey }))
    const { json } = await grant('exec')
    expect(json.vm.grants).toHaveLength(2)
    expect(await listed('other')).toEqual([vm.id])
    const shown = (await rig.call('other', 'vm.show', { id: vm.id })).json.vm as Vm
    expect(shown.grants).toEqual([json.vm.grants[1]])
    expect((await session('channel')).status).toBe(200)
    expect((await session('ssh')).code).toBe('denied')
    await grant('exec', 'ssh')
    expect((await session('ssh')).status).toBe(200)
  })

  const body: Partial<Record<RouteName, object>> = {
    'vm.certify': { certificate: 'AAAA' },
    'vm.grant': { grant: 'AAAA' },
  }
  test.each<RouteName>(['vm.stop', 'vm.delete', 'vm.log', 'vm.certify', 'vm.grant', 'vm.ungrant'])(
    'is denied %s',
    async route => {
      await grant('info', 'exec', 'terminal', 'drives', 'ssh', 'files-up', 'files-down', 'tunnel', 'stats')
      const answer = await rig.call('other', route, { id: vm.id, grantee: keyOf('other'), body: body[route] })
      expect(answer.code).toBe('denied')
      expect(rig.driver.domains.get(vm.id)?.state).toBe('running')
    },
  )

  test('attaches no drive, neither the owner’s nor one of the own', async () => {
    await grant('drives', 'power')
    const drive = await rig
      .api('other')
      .createDrive({ id: randomUUID(), name: `d${count}`, sizeBytes: 2 ** 24, note: '' })
    const answer = await rig.call('other', 'drive.attach', { id: drive.id, body: { vm: vm.id } })
    expect(answer.code).toBe('denied')
  })

  test('stops and deletes with the permission power', async () => {
    await grant('power')
    expect((await rig.call('other', 'vm.stop', { id: vm.id })).status).toBe(200)
    expect((await rig.call('other', 'vm.delete', { id: vm.id })).status).toBe(200)
    expect(await listed('owner')).not.toContain(vm.id)
    expect(await listed('other')).not.toContain(vm.id)
  })

  test('is a stranger again once it expired or was taken back, over a restart too', async () => {
    await put(sign({ expires: seconds() + 60 }))
    await rig.restart()
    expect(await listed('other')).toContain(vm.id)
    rig.clock.advance(61_000)
    expect(await listed('other')).not.toContain(vm.id)
    for (const route of ['vm.show', 'vm.stop', 'vm.log'] as const) {
      expect((await rig.call('other', route, { id: vm.id })).code).toBe('not-found')
    }
    expect((await session('channel')).code).toBe('not-found')
    expect((await rig.vm(vm.id)).grants).toEqual([])
    await grant('exec')
    const { revision } = await rig.vm(vm.id)
    const take = () => rig.call('owner', 'vm.ungrant', { id: vm.id, grantee: keyOf('other') })
    expect((await take()).json.vm.grants).toEqual([])
    expect((await session('channel')).code).toBe('not-found')
    expect((await rig.vm(vm.id)).revision).toBeGreaterThan(revision)
    expect((await take()).status).toBe(200)
  })
})

describe('a grant is refused', () => {
  const owner = () => ({ grantee: rig.people.owner.signKey, granteeDh: rig.people.owner.keys.publicKey })
  test.each<[string, () => string, string]>([
    ['that another signed', () => sign({}, 'other'), 'grant-invalid'],
    ['that an administrator signed', () => sign({}, 'administrator'), 'grant-invalid'],
    ['for another VM', () => sign({ vm: randomUUID() }), 'grant-invalid'],
    ['for the owner', () => sign(owner()), 'grant-invalid'],
    ['that expired', () => sign({ expires: seconds() }), 'grant-expired'],
    ['that is none', () => 'AAAA', 'grant-invalid'],
    ['that is no base64url', () => '***', 'grant-invalid'],
    ['that is longer than any', () => 'A'.repeat(2 * LIMITS.grantBytes + 1), 'bad-request'],
  ])('%s', async (_, make, code) => {
    expect((await put(make())).code).toBe(code)
    expect((await rig.vm(vm.id)).grants).toEqual([])
  })

  test('from a stranger, who learns nothing of the VM', async () => {
    expect((await put(sign({}, 'other'), 'other')).code).toBe('not-found')
  })

  test('with a serial that is not above the one before', async () => {
    await put(sign({ serial: 5, permissions: ['info'] }))
    for (const lower of [5, 4, 0]) expect((await put(sign({ serial: lower }))).code).toBe('grant-revoked')
    expect((await put(sign({ serial: 6 }))).json.vm.grants).toHaveLength(1)
  })

  test('when there are as many as a VM may have, unless it takes an old one’s place', async () => {
    const grantee = (i: number) => new Uint8Array(32).fill(i + 1)
    for (let i = 0; i < LIMITS.grantItems; i++) {
      expect((await put(sign({ grantee: grantee(i), expires: seconds() + 60 }))).status).toBe(200)
    }
    expect((await put(sign())).code).toBe('limit-exceeded')
    expect((await put(sign({ grantee: grantee(0), expires: seconds() + 60 }))).status).toBe(200)
    rig.clock.advance(61_000)
    expect((await put(sign())).status).toBe(200)
  })
})
