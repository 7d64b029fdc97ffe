/** Launching: what is refused, and that a failed launch leaves nothing. SPEC §2.2, §3.3 */
import { randomUUID } from 'node:crypto'
import { existsSync, mkdirSync, readdirSync, readFileSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { nodeHost } from '../../client/node/host.ts'
import { launchVm } from '../../client/vms/vm.ts'
import { openTicket } from '../../protocol/control/ticket.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { runProgram } from '../support/program.ts'
import { Rig } from './rig.ts'

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

const inMinutes = (minutes: number) => Math.floor(rig.clock.now() / 1000) + 60 * minutes

/** Nothing of a launch is there: no folder, no row, no domain. */
async function expectNothingLeft(vm: string): Promise<void> {
  expect(existsSync(join(rig.dataDir, 'vms', vm))).toBe(false)
  expect((await rig.call('administrator', 'vm.show', { id: vm })).code).toBe('not-found')
  expect(rig.driver.domains.has(vm)).toBe(false)
}

describe('tickets', () => {
  test('the client library launches a VM, whose ticket serves once', async () => {
    const options = { name: 'by-library', brick: 'stone', memoryMiB: 512, vcpus: 2 }
    const vm = await launchVm(rig.api(), rig.people.owner, nodeHost, options)
    expect(vm).toMatchObject({ name: 'by-library', state: 'booting', memoryMiB: 512, vcpus: 2, agent: null })
    await rig.api().deleteVm(vm.id)
    await expectNothingLeft(vm.id)
  })

  test.each([
    ['expired', () => rig.sign({ expires: inMinutes(0) - 1 }), 'ticket-expired'],
    ['valid for too long', () => rig.sign({ expires: inMinutes(17) }), 'ticket-invalid'],
    ['for another broker', () => rig.sign({ broker: new Uint8Array(32) }), 'ticket-invalid'],
    ['signed by another', () => rig.sign({}, 'owner', 'other'), 'ticket-invalid'],
    ["another user's", () => rig.sign({}, 'other'), 'ticket-invalid'],
    ['for a brick that is not there', () => rig.sign({ brick: new Uint8Array(32) }), 'brick-unknown'],
  ])('refuses a ticket that is %s', async (_what, make, code) => {
    const launch = make()
    expect((await rig.post(launch, 'never')).code).toBe(code)
    await expectNothingLeft(launch.ticket.vm)
  })

  test('refuses a ticket with one bit changed anywhere', async () => {
    const launch = rig.sign()
    for (let i = 0; i < launch.signed.length; i += 13) {
      const signed = launch.signed.slice()
      signed[i] = (signed[i] as number) ^ 1
      expect((await rig.post({ ...launch, signed }, 'never')).code).toBe('ticket-invalid')
    }
    await expectNothingLeft(launch.ticket.vm)
  })

  test('refuses a brick under another name than its own', async () => {
    expect((await rig.post(rig.sign(), 'never', 'owner', 'other-stone')).code).toBe('brick-unknown')
  })

  test('refuses a replayed ticket: at once, after the VM is deleted, and after a restart', async () => {
    const launch = await rig.launch('replayed')
    expect((await rig.post(launch, 'replayed-2')).code).toBe('ticket-replayed')
    const sameLaunch = rig.sign({ launch: launch.ticket.launch })
    expect((await rig.post(sameLaunch, 'replayed-3')).code).toBe('ticket-replayed')
    const sameVm = rig.sign({ vm: launch.ticket.vm })
    expect((await rig.post(sameVm, 'replayed-4')).code).toBe('ticket-replayed')
    expect((await rig.call('owner', 'vm.delete', { id: launch.vm.id })).status).toBe(200)
    expect((await rig.post(launch, 'replayed')).code).toBe('ticket-replayed')
    await rig.restart()
    expect((await rig.post(launch, 'replayed')).code).toBe('ticket-replayed')
    await expectNothingLeft(launch.vm.id)
  })

  test('refuses a name that is taken, by its owner only', async () => {
    const first = await rig.launch('taken')
    const second = rig.sign()
    expect((await rig.post(second, 'taken')).code).toBe('vm-exists')
    await expectNothingLeft(second.ticket.vm)
    const theirs = await rig.launch('taken', 'other')
    for (const [vm, who] of [
      [first.vm, 'owner'],
      [theirs.vm, 'other'],
    ] as const)
      await rig.call(who, 'vm.delete', { id: vm.id })
    const again = await rig.launch('taken')
    await rig.call('owner', 'vm.delete', { id: again.vm.id })
  })
})

describe('a launch that fails', () => {
  const boom = new MortarError('libvirt-failed', 'as the test wanted')

  test.each(['describe', 'define', 'start'] as const)(
    'at %s leaves nothing behind, and its name is free',
    async step => {
      rig.driver.failNext(step, boom)
      const launch = rig.sign()
      expect((await rig.post(launch, 'unlucky')).code).toBe('libvirt-failed')
      await expectNothingLeft(launch.ticket.vm)
      const next = await rig.launch('unlucky')
      await rig.call('owner', 'vm.delete', { id: next.vm.id })
    },
  )

  test('while libvirt is down says so', async () => {
    rig.driver.setDown(true)
    const launch = rig.sign()
    expect((await rig.post(launch, 'down')).code).toBe('libvirt-down')
    rig.driver.setDown(false)
    await expectNothingLeft(launch.ticket.vm)
  })

  test('and cannot be taken back stays as failed, without its secret, until its owner deletes it', async () => {
    rig.driver.failNext('start', boom)
    rig.driver.failNext('destroy', new MortarError('libvirt-down', ''))
    const launch = rig.sign()
    expect((await rig.post(launch, 'stuck')).code).toBe('libvirt-failed')
    const { id } = { id: launch.ticket.vm }
    expect((await rig.vm(id)).state).toBe('failed')
    expect(existsSync(join(rig.dataDir, 'vms', id, 'mortar.secret'))).toBe(false)
    expect((await rig.call('owner', 'vm.delete', { id })).status).toBe(200)
    await expectNothingLeft(id)
  })

  test('for want of room says so and leaves nothing behind', async ({ skip }) => {
    const mounted = join(rig.folder, 'small')
    mkdirSync(mounted)
    const { code, stderr } = await runProgram('mount', ['-t', 'tmpfs', '-o', 'size=300M', 'tmpfs', mounted])
    if (code !== 0) skip(`no tmpfs can be mounted here: ${stderr.trim()}`)
    const small = new Rig({ dataDir: join(mounted, 'data') })
    try {
      await small.startBroker()
      await small.importBrick('stone')
      const fits = await small.launch('fits')
      await small.call('owner', 'vm.delete', { id: fits.vm.id })
      writeFileSync(join(mounted, 'filler'), Buffer.alloc(40 * 2 ** 20))
      const answer = await small.post(small.sign(), 'too-much')
      expect([answer.status, answer.code]).toEqual([507, 'no-space'])
      expect(answer.json.error.detail).toContain('MiB free')
      expect(readdirSync(join(mounted, 'data', 'vms'))).toEqual([])
      expect((await small.call('owner', 'vm.list')).json).toEqual({ vms: [] })
      expect(small.driver.domains.size).toBe(0)
    } finally {
      await small.close()
      await runProgram('umount', [mounted])
    }
  })

  test('because its overlay cannot be made leaves nothing behind', async () => {
    const launch = rig.sign()
    // a folder is in the way
    mkdirSync(join(rig.dataDir, 'vms', launch.ticket.vm, 'overlay.qcow2'), { recursive: true })
    expect((await rig.post(launch, 'in-the-way')).status).toBe(500)
    await expectNothingLeft(launch.ticket.vm)
  })
})

test('the hypervisor is told the brick by path, and need not believe the overlay', async () => {
  const { vm } = await rig.launch('over-stone')
  const { brickPath } = rig.driver.domains.get(vm.id)?.definition ?? {}
  expect(brickPath).toBe(join(rig.dataDir, 'bricks', `${rig.brickSha256}.qcow2`))
  await rig.call('owner', 'vm.delete', { id: vm.id })
})

describe('boot files', () => {
  test('are for root only, hold ticket and broker address, and the secret goes once the VM runs', async () => {
    const seen: { name: string; mode: number; bytes: Buffer }[] = []
    const start = rig.driver.start.bind(rig.driver)
    rig.driver.start = async vmId => {
      for (const { name, path } of rig.driver.domains.get(vmId)?.definition.bootFiles ?? []) {
        seen.push({ name, mode: statSync(path).mode & 0o777, bytes: readFileSync(path) })
      }
      await start(vmId)
    }
    const launch = await rig.launch('booted')
    rig.driver.start = start
    expect(seen.map(({ name, mode }) => [name, mode])).toEqual([
      ['mortar.ticket', 0o600],
      ['mortar.secret', 0o600],
      ['mortar.broker', 0o600],
      ['mortar.network', 0o600],
    ])
    expect(openTicket(new Uint8Array(seen[0]?.bytes ?? []))).toEqual(launch.ticket)
    expect(seen[1]?.bytes.equals(launch.secret)).toBe(true)
    expect(JSON.parse(String(seen[2]?.bytes))).toEqual({
      url: `${rig.broker.agents.replace('http', 'ws')}/v1/agent?vm=${launch.vm.id}`,
    })
    expect(String(seen[3]?.bytes)).toMatch(/^192\.0\.2\.\d+\/24\n$/)
    const folder = join(rig.dataDir, 'vms', launch.vm.id)
    expect(readdirSync(folder).sort()).toEqual(['mortar.broker', 'mortar.network', 'mortar.ticket', 'overlay.qcow2'])
    expect(statSync(folder).mode & 0o777).toBe(0o711)
    expect(statSync(join(rig.dataDir, 'broker.sqlite')).mode & 0o777).toBe(0o600)
    expect(statSync(join(rig.dataDir, 'broker.key')).mode & 0o777).toBe(0o600)
    await rig.call('owner', 'vm.delete', { id: launch.vm.id })
  })

  test('leave the secret in no file of the broker', async () => {
    const launch = await rig.launch('searched')
    const files = readdirSync(rig.dataDir, { recursive: true, withFileTypes: true }).filter(entry => entry.isFile())
    const holds = (needle: Uint8Array) =>
      files
        .filter(({ parentPath, name }) => readFileSync(join(parentPath, name)).includes(Buffer.from(needle)))
        .map(({ name }) => name)
    expect(holds(launch.secret)).toEqual([])
    // the search finds what is there
    expect(holds(launch.signed)).toEqual(['mortar.ticket'])
    await rig.call('owner', 'vm.delete', { id: launch.vm.id })
  })
})

describe('at the same time', () => {
  test('twenty launches, each deleted while it starts, leave no domain and no folder', async () => {
    const launches = Array.from({ length: 20 }, () => rig.sign())
    await Promise.all(
      launches.map(async (launch, index) => {
        const launching = rig.post(launch, `race-${index}`)
        for (let turns = 0; turns < index; turns++) await new Promise(setImmediate)
        while ((await rig.call('owner', 'vm.delete', { id: launch.ticket.vm })).status !== 200) {
          const settled = await Promise.race([launching, new Promise(resolve => setTimeout(resolve, 250))])
          if (settled) break
        }
        await launching
        await rig.call('owner', 'vm.delete', { id: launch.ticket.vm })
      }),
    )
    expect(rig.driver.domains.size).toBe(0)
    expect(readdirSync(join(rig.dataDir, 'vms'))).toEqual([])
  })

  test('two launches of one name: one runs, one is told that the name is taken', async () => {
    const launches = [rig.sign(), rig.sign()]
    const codes = (await Promise.all(launches.map(launch => rig.post(launch, 'twin')))).map(({ code }) => code)
    expect(codes.sort()).toEqual(['vm-exists', undefined])
    expect(rig.driver.domains.size).toBe(1)
    for (const { ticket } of launches) await rig.call('owner', 'vm.delete', { id: ticket.vm })
  })

  test('a brick is not deleted under a launch', async () => {
    const launch = rig.sign()
    const [launched, deleted] = await Promise.all([
      rig.post(launch, 'needs-it'),
      rig.call('administrator', 'brick.delete', { id: 'stone' }),
    ])
    // whichever was first
    if (launched.status === 200) expect(deleted.code).toBe('brick-in-use')
    else expect([launched.code, deleted.status]).toEqual(['brick-unknown', 200])
    if (launched.status !== 200) {
      await expectNothingLeft(launch.ticket.vm)
      await rig.importBrick('stone')
    } else await rig.call('owner', 'vm.delete', { id: launch.ticket.vm })
    expect((await rig.call('owner', 'vm.show', { id: randomUUID() })).code).toBe('not-found')
  })
})
