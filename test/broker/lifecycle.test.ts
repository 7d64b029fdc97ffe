/** A VM after its launch: deadlines, stop and delete, what the hypervisor tells, restarts of the broker. */
import { existsSync, mkdirSync, readdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { nodeHost } from '../../client/node/host.ts'
import { waitVm } from '../../client/vms/vm.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { Rig } from './rig.ts'
import { ControlEnd, enrolled, joinPair, newBoot, soon } from './sockets.ts'

let rig: Rig
beforeEach(async () => {
  rig = await Rig.start({ enrolWithinMs: 100_000 })
})
afterEach(() => rig.close())

const until = (id: string, state: string) =>
  expect.poll(async () => (await rig.vm(id)).state, { interval: 10 }).toBe(state)
const stop = (id: string) => rig.call('owner', 'vm.stop', { id })

describe('the enrolment deadline', () => {
  test('fails a silent VM with stage and console tail, as the client library tells it', async () => {
    const { vm } = await rig.launch('silent')
    const log = '\x1b[1mLinux version 6.1\x1b[0m\r\nsystemd[1]: Welcome to Debian\r\nthe last line\r\n'
    writeFileSync(join(rig.dataDir, 'vms', vm.id, 'console.log'), log)
    const waiting = waitVm(rig.api(), nodeHost.clock, vm.id, { goal: 'ready', timeoutMs: 20_000 }).catch(error => error)
    await new Promise(resolve => setTimeout(resolve, 50))
    rig.clock.advance(100_001)
    const error = (await soon(waiting, 'the failure')) as MortarError
    expect(error).toBeInstanceOf(MortarError)
    expect(error.code).toBe('vm-silent')
    expect(error.detail).toContain('silent failed at stage system starting: vm-silent: did not enrol within 100 s')
    expect(error.detail).toContain('the last line')
    expect(await rig.api().vmLog(vm.id)).toBe('Linux version 6.1\nsystemd[1]: Welcome to Debian\nthe last line\n')
    expect(rig.driver.domains.get(vm.id)?.state).toBe('running')
  })

  test('does not fail a VM that enrols, and takes one back that enrols late', async () => {
    const launch = await rig.launch('late')
    rig.clock.advance(99_000)
    expect((await rig.vm(launch.vm.id)).state).toBe('booting')
    rig.clock.advance(1_001)
    await until(launch.vm.id, 'failed')
    const agent = await enrolled(rig.broker.agents, launch)
    expect(await rig.vm(launch.vm.id)).toMatchObject({ state: 'enrolled', failure: null })
    rig.clock.advance(1_000_000)
    expect((await rig.vm(launch.vm.id)).state).toBe('enrolled')
    agent.socket.close()
  })

  test('is not put off by a guest that reboots over and over', async () => {
    const { vm } = await rig.launch('looping')
    for (let times = 0; times < 4; times++) {
      rig.clock.advance(24_000)
      rig.driver.reboot(vm.id)
      await expect
        .poll(async () => (await rig.vm(vm.id)).events.filter(({ cause }) => cause === 'guest rebooted').length)
        .toBe(times + 1)
    }
    rig.clock.advance(5_000)
    await until(vm.id, 'failed')
  })

  test('runs on over a restart, with time to come back', async () => {
    const { vm } = await rig.launch('restarted')
    await rig.stopBroker()
    rig.clock.advance(200_000)
    await rig.startBroker()
    expect((await rig.vm(vm.id)).state).toBe('booting')
    rig.clock.advance(60_001)
    await until(vm.id, 'failed')
  })
})

describe('stop and delete', () => {
  test('a guest that obeys is stopped; stopping twice is fine, stopping what is stopped is not', async () => {
    const { vm } = await rig.launch('obedient')
    const answers = await Promise.all([stop(vm.id), stop(vm.id)])
    expect(answers.map(({ status }) => status).sort()).toContain(200)
    await until(vm.id, 'stopped')
    expect((await stop(vm.id)).code).toBe('vm-state')
    expect((await rig.call('owner', 'vm.delete', { id: vm.id })).status).toBe(200)
    expect((await rig.call('owner', 'vm.delete', { id: vm.id })).code).toBe('not-found')
  })

  test('a guest that does not obey is switched off after a minute, also when libvirt is away just then', async () => {
    rig.driver.guestObeys = false
    const { vm } = await rig.launch('stubborn')
    await stop(vm.id)
    expect((await rig.vm(vm.id)).state).toBe('stopping')
    rig.driver.setDown(true)
    rig.clock.advance(60_001)
    await expect.poll(() => rig.log.some(({ event }) => event === 'vm.destroy-failed')).toBe(true)
    rig.driver.setDown(false)
    rig.clock.advance(5_001)
    await until(vm.id, 'stopped')
    expect(rig.driver.domains.get(vm.id)?.state).toBe('stopped')
  })

  test('a stop that was asked for before a restart is carried through', async () => {
    rig.driver.guestObeys = false
    const { vm } = await rig.launch('stubborn')
    await stop(vm.id)
    await rig.restart()
    rig.clock.advance(60_001)
    await until(vm.id, 'stopped')
  })

  test('while libvirt is down fails and changes nothing', async () => {
    const { vm } = await rig.launch('steady')
    rig.driver.setDown(true)
    expect((await stop(vm.id)).code).toBe('libvirt-down')
    expect((await rig.call('owner', 'vm.delete', { id: vm.id })).code).toBe('libvirt-down')
    expect((await rig.vm(vm.id)).state).toBe('booting')
    rig.driver.setDown(false)
    expect((await stop(vm.id)).status).toBe(200)
    await until(vm.id, 'stopped')
  })

  test('a VM that crashed can be stopped and is then stopped', async () => {
    const { vm } = await rig.launch('crashed')
    rig.driver.crash(vm.id)
    await until(vm.id, 'failed')
    expect((await rig.vm(vm.id)).failure?.stage).toBe('running')
    await stop(vm.id)
    rig.clock.advance(60_001)
    await until(vm.id, 'stopped')
  })

  test('deleting ends its sockets and wakes who waits for it', async () => {
    const launch = await rig.launch('watched')
    const { id } = launch.vm
    const agent = await enrolled(rig.broker.agents, launch)
    const { token } = await rig.api().createSession(id, 'channel')
    const offer = await agent.next('offer')
    // who asked, for the agent to know whose sshd is meant
    expect(offer.user).toBe(encodeBase64url(rig.people.owner.signKey))
    const ends = await Promise.all([joinPair(rig.broker.origin, token), joinPair(rig.broker.origin, offer.token)])
    const waiting = waitVm(rig.api(), nodeHost.clock, id, { goal: 'ready', timeoutMs: 20_000 }).catch(
      error => error.code,
    )
    await rig.call('owner', 'vm.delete', { id })
    // it may see the domain end on the way
    expect(['not-found', 'vm-state']).toContain(await soon(waiting, 'the answer'))
    for (const end of ends) expect(await soon(end.closed, 'the close')).toEqual({ code: 4000, reason: 'going-away' })
    await soon(agent.closed, 'the close of the agent')
    expect(existsSync(join(rig.dataDir, 'vms', id))).toBe(false)
  })
})

describe('a restart of the broker', () => {
  test('keeps VMs, drives and certificates, and takes agents back; join tokens do not survive', async () => {
    const launch = await rig.launch('kept')
    const { id } = launch.vm
    const boot = newBoot()
    const agent = await enrolled(rig.broker.agents, launch, boot)
    agent.send({ type: 'ready' })
    await until(id, 'ready')
    const driveId = '11111111-1111-4111-8111-111111111111'
    await rig.api().createDrive({ id: driveId, name: 'data', sizeBytes: 2 ** 24, note: 'noted' })
    await rig.api().attachDrive(driveId, id)
    const before = await rig.vm(id)
    const { token } = await rig.api().createSession(id, 'channel')
    const brokerId = rig.broker.id
    await rig.restart()
    expect(rig.broker.id).toBe(brokerId)
    const after = await rig.vm(id)
    expect({ ...after, revision: 0, events: [], agent: { ...after.agent, connected: true } }).toEqual({
      ...before,
      revision: 0,
      events: [],
    })
    expect((await rig.api().drives())[0]).toMatchObject({ id: driveId, attachedTo: id, note: 'noted' })
    await expect(joinPair(rig.broker.origin, token)).rejects.toThrow('401')
    await enrolled(rig.broker.agents, launch, boot)
    expect((await rig.vm(id)).state).toBe('ready')
    expect((await rig.vm(id)).agent?.connected).toBe(true)
  })

  test('notices what ended meanwhile, and releases its drives', async () => {
    const { vm } = await rig.launch('ended')
    const driveId = '11111111-1111-4111-8111-111111111111'
    await rig.api().createDrive({ id: driveId, name: 'data', sizeBytes: 2 ** 24, note: '' })
    await rig.api().attachDrive(driveId, vm.id)
    await rig.stopBroker()
    rig.driver.domains.delete(vm.id)
    await rig.startBroker()
    await until(vm.id, 'stopped')
    expect((await rig.api().drives())[0]?.attachedTo).toBe(null)
  })

  test('removes a launch that was cut short, and folders that belong to nobody', async () => {
    const launch = rig.sign()
    const define = rig.driver.define.bind(rig.driver)
    let reached: () => void = () => undefined
    const stuck = new Promise<void>(resolve => {
      reached = resolve
    })
    rig.driver.define = async vm => {
      await define(vm)
      reached()
      await new Promise(() => undefined)
    }
    const posting = rig.post(launch, 'cut-short').catch(() => undefined)
    await stuck
    await rig.stopBroker()
    rig.driver.define = define
    const stray = join(rig.dataDir, 'vms', '22222222-2222-4222-8222-222222222222')
    mkdirSync(stray)
    expect(existsSync(join(rig.dataDir, 'vms', launch.ticket.vm, 'mortar.secret'))).toBe(true)
    await rig.startBroker()
    await expect.poll(() => readdirSync(join(rig.dataDir, 'vms'))).toEqual([])
    expect(rig.driver.domains.has(launch.ticket.vm)).toBe(false)
    expect((await rig.call('owner', 'vm.show', { id: launch.ticket.vm })).code).toBe('not-found')
    await posting
  })

  test('while libvirt is down serves what it knows, and catches up when libvirt is back', async () => {
    const { vm } = await rig.launch('unknown')
    await rig.stopBroker()
    rig.driver.domains.delete(vm.id)
    rig.driver.setDown(true)
    await rig.startBroker()
    expect((await rig.vm(vm.id)).state).toBe('booting')
    expect((await rig.call(null, 'broker.show')).json.acceleration).toBe('unknown')
    await expect.poll(() => rig.log.some(({ event }) => event === 'hypervisor.unreachable')).toBe(true)
    rig.driver.setDown(false)
    rig.clock.advance(5_001)
    await until(vm.id, 'stopped')
  })

  test('does not take a launch of the first moment for a leftover', async () => {
    await rig.restart()
    const launches = await Promise.all(Array.from({ length: 5 }, (_, index) => rig.launch(`early-${index}`)))
    await new Promise(resolve => setTimeout(resolve, 50))
    for (const { vm } of launches) expect((await rig.vm(vm.id)).state).toBe('booting')
  })

  test('a second broker over the same data is refused', async () => {
    await expect(rig.startBroker()).rejects.toMatchObject({ code: 'data-taken' })
    expect((await rig.call(null, 'broker.show')).status).toBe(200)
  })
})

test('an event that cannot be stored is not lost: the VM is looked at again', async () => {
  const launch = await rig.launch('unlucky')
  const { VmStore } = await import('../../broker/store/vm-store.ts')
  const { save } = VmStore.prototype
  VmStore.prototype.save = () => {
    throw new Error('disk I/O error')
  }
  rig.driver.powerOff(launch.vm.id)
  await expect.poll(() => rig.log.some(({ event }) => event === 'vm.event-lost')).toBe(true)
  VmStore.prototype.save = save
  rig.clock.advance(5_001)
  await until(launch.vm.id, 'stopped')
})

test('agents and sockets of before a stop do not disturb it', async () => {
  const launch = await rig.launch('busy')
  await enrolled(rig.broker.agents, launch)
  const strangers = Array.from({ length: 5 }, () => new ControlEnd(rig.broker.agents))
  await Promise.all(strangers.map(control => control.next('challenge')))
  const started = Date.now()
  await rig.restart()
  expect(Date.now() - started).toBeLessThan(4_000)
  expect(rig.log.filter(({ level }) => level === 'error')).toEqual([])
})
