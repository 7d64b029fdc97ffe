/** What every hypervisor driver must do, run against the fake in memory and against libvirt with QEMU. */
import { execFileSync } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import type { DomainEvent, DriveVolume, HypervisorDriver, VmDefinition } from '../../broker/hypervisor/driver.ts'
import { LibvirtDriver } from '../../broker/hypervisor/libvirt/driver.ts'
import { createVolume } from '../../broker/images/volume.ts'
import { makeBridge, removeBridge } from '../../broker/network/bridge.ts'
import { AGENT_PORT, placeOf, planNetwork } from '../../broker/network/plan.ts'
import { FakeHypervisor } from '../support/fake-hypervisor.ts'
import { ensureLibvirt } from '../support/libvirt-daemons.ts'

/** A driver, and the strings that only its kind of hypervisor has. */
interface Subject {
  readonly driver: HypervisorDriver
  reboot(vmId: string): void
  crash(vmId: string): void
  /** a domain of somebody else, and how to know that it is as it was */
  addForeign(): string
  foreignIsUntouched(vmId: string): boolean
  close(): void
}

function fakeSubject(): Subject {
  const driver = new FakeHypervisor()
  return {
    driver,
    reboot: vmId => driver.reboot(vmId),
    crash: vmId => driver.crash(vmId),
    addForeign: () => driver.addForeign(),
    foreignIsUntouched: vmId => !driver.domains.has(vmId),
    close: () => driver.close(),
  }
}

const virsh = (...args: string[]) =>
  execFileSync('virsh', ['-q', '-c', 'qemu:///system', ...args], { encoding: 'utf8' })

const pidOf = (vmId: string) => Number(readFileSync(`/run/libvirt/qemu/mortar-${vmId}.pid`, 'utf8'))

async function libvirtSubject(): Promise<Subject> {
  await ensureLibvirt()
  const driver = new LibvirtDriver()
  const foreign: string[] = []
  return {
    driver,
    reboot: vmId => virsh('reset', vmId),
    crash: vmId => process.kill(pidOf(vmId), 'SIGKILL'),
    addForeign: () => {
      const vmId = randomUUID()
      const xml = join(directory, 'foreign.xml')
      // a name that looks like ours and is not
      const name = `mortar-foreign-${vmId.slice(0, 8)}`
      const os = "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
      writeFileSync(
        xml,
        `<domain type='qemu'><name>${name}</name><uuid>${vmId}</uuid><memory unit='MiB'>64</memory>${os}</domain>`,
      )
      virsh('define', xml)
      virsh('start', vmId)
      foreign.push(vmId)
      return vmId
    },
    foreignIsUntouched: vmId => virsh('domstate', vmId).trim() === 'running',
    close: () => {
      for (const vmId of foreign) {
        virsh('destroy', vmId)
        virsh('undefine', vmId)
      }
      driver.close()
    },
  }
}

/** a network of the tests' own */
const plan = planNetwork(randomBytes(32))
const network = { name: plan.name, address: plan.address, macAddress: plan.macAddress, agentPort: AGENT_PORT }

let directory: string
beforeAll(() => {
  // QEMU runs as a user of its own, which must be able to come here
  directory = mkdtempSync('/var/tmp/mortar-contract-')
  chmodSync(directory, 0o711)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

/** A VM without a system on its disk: QEMU runs, the firmware finds nothing to boot. */
function vmWithoutSystem(): VmDefinition {
  const vmId = randomUUID()
  const home = join(directory, vmId)
  mkdirSync(home)
  chmodSync(home, 0o711)
  const overlayPath = join(home, 'overlay.qcow2')
  const brickPath = join(home, 'brick.qcow2')
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', brickPath, '16M'])
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', brickPath, '-F', 'qcow2', overlayPath])
  const secretPath = join(home, 'secret')
  writeFileSync(secretPath, randomBytes(32), { mode: 0o600 })
  return {
    vmId,
    name: `contract <&> ${vmId.slice(0, 4)}`,
    memoryMiB: 64,
    vcpus: 1,
    overlayPath,
    brickPath,
    consoleLogPath: join(home, 'console.log'),
    bootFiles: [{ name: 'mortar.secret', path: secretPath }],
    network: { kind: 'isolated', network: plan.name, ...placeOf(plan, 2) },
  }
}

async function newVolume(): Promise<DriveVolume> {
  const driveId = randomUUID()
  const path = join(directory, `${driveId}.raw`)
  await createVolume(path, 1 << 20)
  return { driveId, path, serial: driveId.replaceAll('-', '').slice(0, 20) }
}

const GONE = '00000000-0000-4000-8000-000000000000'
const failure = (code: string) => expect.objectContaining({ code })

describe.each([
  ['fake', fakeSubject],
  ['libvirt', libvirtSubject],
] as const)('the %s driver', (kind, make) => {
  let subject: Subject | undefined
  let reason = ''
  let driver: HypervisorDriver
  let vm: VmDefinition
  const events: DomainEvent[] = []

  beforeAll(async () => {
    try {
      subject = await make()
    } catch (cause) {
      reason = (cause as Error).message
      return
    }
    driver = subject.driver
    if (kind === 'libvirt') await makeBridge(plan)
    await driver.ensureNetwork(network)
    driver.onEvent(event => events.push(event))
  })
  afterAll(async () => {
    if (!subject) return
    for (let time = 0; time < 2; time++) await driver.removeNetwork(plan.name)
    if (kind === 'libvirt') await removeBridge(plan.name)
    subject.close()
  })

  beforeEach(async ({ skip, onTestFinished }) => {
    if (!subject) skip(`no ${kind} here: ${reason}`)
    events.length = 0
    vm = vmWithoutSystem()
    onTestFinished(async () => {
      await driver.destroy(vm.vmId).catch(() => undefined)
      await driver.undefine(vm.vmId).catch(() => undefined)
    })
  })

  const stateOf = async (vmId: string) => (await driver.list()).find(status => status.vmId === vmId)?.state
  const ofVm = () => events.filter(event => event.vmId === vm.vmId)
  /** Waits until the newest events of the VM are these. */
  async function until(...newest: DomainEvent['kind'][]): Promise<void> {
    await expect
      .poll(() =>
        ofVm()
          .map(event => event.kind)
          .slice(-newest.length),
      )
      .toEqual(newest)
  }
  async function kinds(...all: DomainEvent['kind'][]): Promise<void> {
    await expect.poll(() => ofVm().map(event => event.kind)).toEqual(all)
  }

  test('says what it is', async () => {
    const description = await driver.describe()
    expect(description.hypervisor).toMatch(/\w+ \d+\.\d+/)
    expect(['kvm', 'tcg']).toContain(description.acceleration)
    expect(description.reason).not.toBe('')
  })

  test('takes a VM through its life, and every step may be repeated', async () => {
    for (let time = 0; time < 2; time++) await driver.define(vm)
    expect(await stateOf(vm.vmId)).toBe('stopped')
    for (let time = 0; time < 2; time++) await driver.start(vm.vmId)
    expect(await stateOf(vm.vmId)).toBe('running')
    // what all VMs share belongs to none of them
    expect(statSync(vm.brickPath).uid).toBe(process.getuid?.())
    await driver.define(vm)
    expect(await stateOf(vm.vmId)).toBe('running')
    for (let time = 0; time < 2; time++) await driver.destroy(vm.vmId)
    expect(await stateOf(vm.vmId)).toBe('stopped')
    await kinds('started', 'stopped')
    await driver.start(vm.vmId)
    await driver.destroy(vm.vmId)
    await driver.undefine(vm.vmId)
    expect(await stateOf(vm.vmId)).toBeUndefined()
    await kinds('started', 'stopped', 'started', 'stopped')
  })

  test('makes a network that may be made again, and knows the group of QEMU', async () => {
    await driver.ensureNetwork(network)
    await driver.define({ ...vm, network: { kind: 'isolated', network: 'mortar-none', ...placeOf(plan, 3) } })
    await expect(driver.start(vm.vmId)).rejects.toEqual(failure('libvirt-failed'))
    await driver.define(vm)
    await driver.start(vm.vmId)
    await driver.ensureNetwork(network)
    expect(await stateOf(vm.vmId)).toBe('running')
    expect(await driver.qemuGroup()).toBeGreaterThan(0)
  })

  test('takes a VM on user networking, in a process of the user it names', async () => {
    const { uid } = placeOf(plan, 3)
    await driver.define({ ...vm, network: { kind: 'user', uid, gid: await driver.qemuGroup() } })
    await driver.start(vm.vmId)
    expect(await stateOf(vm.vmId)).toBe('running')
    if (kind === 'libvirt') expect(statSync(`/proc/${pidOf(vm.vmId)}`).uid).toBe(uid)
    const volume = await newVolume()
    await driver.attachDrive(vm.vmId, volume)
    await driver.detachDrive(vm.vmId, volume)
  })

  test('fails with not-found for what is not there', async () => {
    const volume = await newVolume()
    for (const step of ['start', 'shutdown', 'destroy', 'undefine'] as const)
      await expect(driver[step](GONE), step).rejects.toEqual(failure('not-found'))
    await expect(driver.attachDrive(GONE, volume)).rejects.toEqual(failure('not-found'))
    await expect(driver.detachDrive(GONE, volume)).rejects.toEqual(failure('not-found'))
  })

  test('asks a guest to power off without waiting for it', async () => {
    await driver.define(vm)
    await driver.start(vm.vmId)
    for (let time = 0; time < 2; time++) await driver.shutdown(vm.vmId)
    await driver.destroy(vm.vmId)
    await driver.shutdown(vm.vmId)
  })

  test('plugs drives in and out of a running VM', async () => {
    const volumes = [await newVolume(), await newVolume(), await newVolume()] as const
    await driver.define(vm)
    await expect(driver.attachDrive(vm.vmId, volumes[0])).rejects.toEqual(failure('vm-state'))
    await driver.start(vm.vmId)
    for (const volume of [...volumes, volumes[0]]) await driver.attachDrive(vm.vmId, volume)
    await driver.detachDrive(vm.vmId, volumes[1])
    await driver.detachDrive(vm.vmId, volumes[1])
    await kinds('started', 'drive-detached')
    expect(ofVm().at(-1)?.detail).toBe(volumes[1].driveId)
    await driver.attachDrive(vm.vmId, volumes[1])
    await driver.destroy(vm.vmId)
    // the run took the drives along: each is free for the next
    for (const volume of volumes) await driver.detachDrive(vm.vmId, volume)
    await driver.start(vm.vmId)
    await driver.attachDrive(vm.vmId, volumes[2])
    await driver.detachDrive(vm.vmId, volumes[2])
  })

  test('tells of a reboot, and of a VM whose process died', async () => {
    await driver.define(vm)
    await driver.start(vm.vmId)
    subject?.reboot(vm.vmId)
    await until('rebooted')
    subject?.crash(vm.vmId)
    await until('crashed')
    expect(await stateOf(vm.vmId)).toBe('stopped')
    await driver.start(vm.vmId)
    await until('crashed', 'started')
    // the firmware may reset once more by itself
    const once = ofVm().filter((event, index, all) => event.kind !== all[index - 1]?.kind)
    expect(once.map(event => event.kind)).toEqual(['started', 'rebooted', 'crashed', 'started'])
  })

  test('neither shows nor touches the domains of others', async () => {
    const foreign = subject?.addForeign() as string
    expect(await stateOf(foreign)).toBeUndefined()
    const volume = await newVolume()
    for (const step of ['start', 'shutdown', 'destroy', 'undefine'] as const)
      await expect(driver[step](foreign), step).rejects.toEqual(failure('not-found'))
    await expect(driver.attachDrive(foreign, volume)).rejects.toEqual(failure('not-found'))
    await expect(driver.define({ ...vm, vmId: foreign })).rejects.toEqual(failure('libvirt-failed'))
    expect(subject?.foreignIsUntouched(foreign)).toBe(true)
    expect(events.filter(event => event.vmId === foreign)).toEqual([])
  })
})
