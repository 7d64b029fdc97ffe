/** Drives at the broker: one VM at a time, released whenever that VM ends, never lost. */
import { randomUUID } from 'node:crypto'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { MortarError } from '../../protocol/core/errors.ts'
import { Rig } from './rig.ts'

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

let count = 0
const newDrive = () =>
  rig.api().createDrive({ id: randomUUID(), name: `drive-${count++}`, sizeBytes: 2 ** 24, note: '' })
const newVm = async () => (await rig.launch(`vm-${count++}`)).vm
const attach = (drive: { id: string }, vm: { id: string }) =>
  rig.call('owner', 'drive.attach', { id: drive.id, body: { vm: vm.id } })
const detach = (drive: { id: string }) => rig.call('owner', 'drive.detach', { id: drive.id })
const remove = (drive: { id: string }) => rig.call('owner', 'drive.delete', { id: drive.id })
const holderOf = async (drive: { id: string }) =>
  (await rig.api().drives()).find(({ id }) => id === drive.id)?.attachedTo
const plugged = (vm: { id: string }) => [...(rig.driver.domains.get(vm.id)?.drives.keys() ?? [])]
const fileOf = (drive: { id: string }) => join(rig.dataDir, 'drives', `${drive.id}.raw`)

test('a drive is a sparse file that only the broker can read, with a serial of 20 characters', async () => {
  const drive = await newDrive()
  const { size, blocks, mode } = statSync(fileOf(drive))
  expect([size, blocks, mode & 0o777]).toEqual([2 ** 24, 0, 0o600])
  expect(drive.serial).toBe(drive.id.replaceAll('-', '').slice(0, 20))
  expect((await remove(drive)).status).toBe(200)
  expect(existsSync(fileOf(drive))).toBe(false)
})

test('names are unique for their owner, and a refused one leaves no file', async () => {
  const drive = await newDrive()
  const body = { id: randomUUID(), name: drive.name, sizeBytes: 2 ** 24, note: '' }
  expect((await rig.call('owner', 'drive.create', { body })).code).toBe('drive-exists')
  expect((await rig.call('owner', 'drive.create', { body: { ...body, id: drive.id, name: 'other' } })).code).toBe(
    'drive-exists',
  )
  expect(existsSync(fileOf(body))).toBe(false)
  expect(existsSync(fileOf(drive))).toBe(true)
  expect((await rig.call('other', 'drive.create', { body })).status).toBe(200)
})

test('says no-space for more than there is, and keeps nothing', async () => {
  const body = { id: randomUUID(), name: 'huge', sizeBytes: 2 ** 44, note: '' }
  expect((await rig.call('owner', 'drive.create', { body })).code).toBe('no-space')
  expect(existsSync(fileOf(body))).toBe(false)
  expect((await rig.api().drives()).some(({ name }) => name === 'huge')).toBe(false)
})

test('attaching twice to the same VM is fine, to another is refused until it is detached', async () => {
  const [drive, vm, other] = [await newDrive(), await newVm(), await newVm()]
  for (let times = 0; times < 2; times++) expect((await attach(drive, vm)).status).toBe(200)
  expect(plugged(vm)).toEqual([drive.id])
  expect((await rig.vm(vm.id)).drives).toEqual([drive.id])
  const refused = await attach(drive, other)
  expect([refused.code, refused.json.error.detail]).toEqual(['drive-attached', `${drive.name}, by ${vm.name}`])
  expect((await remove(drive)).code).toBe('drive-attached')
  expect(existsSync(fileOf(drive))).toBe(true)
  for (let times = 0; times < 2; times++) expect((await detach(drive)).status).toBe(200)
  expect((await attach(drive, other)).status).toBe(200)
  expect([plugged(vm), plugged(other)]).toEqual([[], [drive.id]])
})

test('of twenty VMs that ask at once one gets it', async () => {
  const drive = await newDrive()
  const vms = await Promise.all(Array.from({ length: 20 }, newVm))
  const answers = await Promise.all(vms.map(vm => attach(drive, vm)))
  expect(answers.filter(({ status }) => status === 200)).toHaveLength(1)
  expect(vms.flatMap(plugged)).toEqual([drive.id])
  await Promise.all(vms.map(vm => rig.api().deleteVm(vm.id)))
})

test('an attach that fails releases the drive', async () => {
  const [drive, vm] = [await newDrive(), await newVm()]
  rig.driver.failNext('attachDrive', new MortarError('libvirt-failed', 'as the test wanted'))
  expect((await attach(drive, vm)).code).toBe('libvirt-failed')
  expect(await holderOf(drive)).toBe(null)
  expect((await attach(drive, vm)).status).toBe(200)
})

test('an attach of which nobody knows whether it was done keeps the drive with the VM', async () => {
  const [drive, vm, other] = [await newDrive(), await newVm(), await newVm()]
  rig.driver.setDown(true)
  expect((await attach(drive, vm)).code).toBe('libvirt-down')
  rig.driver.setDown(false)
  expect(await holderOf(drive)).toBe(vm.id)
  expect((await attach(drive, other)).code).toBe('drive-attached')
  expect((await detach(drive)).status).toBe(200)
  expect((await attach(drive, other)).status).toBe(200)
})

test('a guest that holds on keeps the drive; a VM that ends releases it', async () => {
  const [drive, vm] = [await newDrive(), await newVm()]
  await attach(drive, vm)
  rig.driver.guestReleasesDrives = false
  expect((await detach(drive)).code).toBe('timeout')
  expect(await holderOf(drive)).toBe(vm.id)
  rig.driver.guestReleasesDrives = true
  rig.driver.crash(vm.id)
  await expect.poll(() => holderOf(drive)).toBe(null)
  expect((await attach(drive, vm)).code).toBe('vm-state')
})

test('stopping and deleting a VM release its drives and leave them as they are', async () => {
  const [first, second, stopped, deleted] = [await newDrive(), await newDrive(), await newVm(), await newVm()]
  await attach(first, stopped)
  await attach(second, deleted)
  await rig.api().stopVm(stopped.id)
  await rig.api().deleteVm(deleted.id)
  for (const drive of [first, second]) {
    await expect.poll(() => holderOf(drive)).toBe(null)
    expect(existsSync(fileOf(drive))).toBe(true)
  }
})

test('a VM that ends while a drive is plugged in does not take it from the next one', async () => {
  const [drive, dying, next] = [await newDrive(), await newVm(), await newVm()]
  const attachDrive = rig.driver.attachDrive.bind(rig.driver)
  rig.driver.attachDrive = async (vmId, volume) => {
    if (vmId === dying.id) {
      rig.driver.powerOff(dying.id)
      await expect.poll(async () => (await rig.vm(dying.id)).state).toBe('stopped')
      // the drive is free, and the next VM is quicker than this one's failure
      expect((await attach(drive, next)).status).toBe(200)
    }
    return attachDrive(vmId, volume)
  }
  expect((await attach(drive, dying)).code).toBe('vm-state')
  rig.driver.attachDrive = attachDrive
  expect(await holderOf(drive)).toBe(next.id)
})

test('creating and deleting the same drive at once leaves a file for each row, and none beside', async () => {
  const bodies = Array.from({ length: 10 }, () => ({
    id: randomUUID(),
    name: `race-${count++}`,
    sizeBytes: 2 ** 24,
    note: '',
  }))
  await Promise.all(
    bodies.flatMap(body => [
      rig.call('owner', 'drive.create', { body }),
      rig.call('owner', 'drive.delete', { id: body.id }),
    ]),
  )
  const rows = (await rig.call('administrator', 'drive.list')).json.drives.map(({ id }: { id: string }) => `${id}.raw`)
  expect(readdirSync(join(rig.dataDir, 'drives')).sort()).toEqual(rows.sort())
})
