/** Drives at the broker: files it cannot read, plugged into one VM at a time. */
import { join } from 'node:path'
import type { z } from 'zod'
import type { Drive, driveCreate } from '../../protocol/control/api.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { User } from '../auth/login.ts'
import type { DataDir } from '../data-dir.ts'
import type { DriveVolume, HypervisorDriver } from '../hypervisor/driver.ts'
import type { DiskRoom } from '../images/disk-room.ts'
import { createVolume, removeVolume } from '../images/volume.ts'
import type { Log } from '../process/log.ts'
import type { Serialiser } from '../process/serialise.ts'
import type { DriveStore } from '../store/drive-store.ts'
import type { VmRecord } from '../store/vm-store.ts'
import { RUNNING } from '../vms/states.ts'
import type { VmBook } from '../vms/vm-book.ts'

/** per user; what a client lists at once is limited too */
const MOST_DRIVES = 1_000

export interface DrivesParts {
  readonly store: DriveStore
  readonly book: VmBook
  readonly driver: HypervisorDriver
  readonly dataDir: DataDir
  readonly clock: Clock
  readonly log: Log
  readonly serialiser: Serialiser
  readonly diskRoom: DiskRoom
}

/** The file of a drive. */
export function drivePath(dataDir: DataDir, id: string): string {
  return join(dataDir.drives, `${id}.raw`)
}

export class Drives {
  readonly #parts: DrivesParts

  constructor(parts: DrivesParts) {
    this.#parts = parts
  }

  /** Makes a sparse volume. Fails with drive-exists, no-space or limit-exceeded. */
  create(user: User, request: z.output<typeof driveCreate>): Promise<Drive> {
    return this.#parts.serialiser.run(`drive ${request.id}`, () => this.#create(user, request))
  }

  async #create(user: User, request: z.output<typeof driveCreate>): Promise<Drive> {
    const { store, dataDir, clock, log, diskRoom } = this.#parts
    if (store.countOf(user.key) >= MOST_DRIVES) throw new MortarError('limit-exceeded', `${MOST_DRIVES} drives`)
    // in one step with the record, so that two drives are not promised the same
    diskRoom.require(dataDir.drives, request.sizeBytes)
    const drive: Drive = {
      ...request,
      owner: user.key,
      attachedTo: null,
      serial: driveSerial(request.id),
      createdAt: new Date(clock.now()).toISOString(),
    }
    store.insert(drive)
    try {
      await createVolume(this.#path(drive.id), drive.sizeBytes)
    } catch (cause) {
      store.remove(drive.id)
      throw cause
    }
    log.info('drive.created', { drive: drive.id, sizeBytes: drive.sizeBytes })
    return drive
  }

  /** Plugs the drive into a running VM of the same owner. May be repeated. Fails with drive-attached, vm-state, denied, libvirt-*. */
  async attach(drive: Drive, vm: VmRecord): Promise<Drive> {
    const { store, book, driver, log, serialiser } = this.#parts
    if (drive.owner !== vm.owner) throw new MortarError('denied', 'drive and VM have different owners')
    await serialiser.run(vm.id, async () => {
      const now = book.get(vm.id)
      if (!now || !RUNNING.has(now.state) || now.state === 'stopping') {
        throw new MortarError('vm-state', `${vm.name} is ${now?.state ?? 'gone'}`)
      }
      const claimed = store.claim(drive.id, vm.id)
      const held = store.get(drive.id)
      if (!held) throw new MortarError('not-found', `drive ${drive.id}`)
      if (held.attachedTo !== vm.id) {
        throw new MortarError('drive-attached', `${drive.name}, by ${book.get(held.attachedTo ?? '')?.name ?? 'a VM'}`)
      }
      try {
        await driver.attachDrive(vm.id, this.#volume(drive))
      } catch (cause) {
        if (claimed) await this.#giveBack(drive, vm.id, cause)
        throw cause
      }
      if (claimed) book.note(vm.id, `drive ${drive.name} attached`)
      log.info('drive.attached', { drive: drive.id, vm: vm.id })
    })
    return store.get(drive.id) ?? drive
  }

  /** After a failed attach. Where it is not known whether the drive was plugged in, it stays with the VM unless unplugged. */
  async #giveBack(drive: Drive, vm: string, cause: unknown): Promise<void> {
    const { store, driver } = this.#parts
    const { code } = asMortarError(cause)
    if (code === 'libvirt-down' || code === 'timeout') {
      try {
        await driver.detachDrive(vm, this.#volume(drive))
      } catch (thrown) {
        if (asMortarError(thrown).code !== 'not-found') return
      }
    }
    store.release(drive.id, vm)
  }

  /** Unplugs the drive once the guest lets go. May be repeated. Fails with timeout or libvirt-*. */
  async detach(drive: Drive): Promise<Drive> {
    const { store, book, driver, log, serialiser } = this.#parts
    const vm = drive.attachedTo
    if (vm === null) return drive
    await serialiser.run(vm, async () => {
      if (store.get(drive.id)?.attachedTo !== vm) return
      await driver.detachDrive(vm, this.#volume(drive)).catch(cause => {
        // a domain that is gone holds no drive
        if (asMortarError(cause).code !== 'not-found') throw cause
      })
      // the VM may have ended meanwhile, which released the drive
      if (store.release(drive.id, vm)) book.note(vm, `drive ${drive.name} detached`)
      log.info('drive.detached', { drive: drive.id, vm })
    })
    return store.get(drive.id) ?? drive
  }

  /** Removes the volume and all that is on it. Fails with drive-attached. */
  delete(drive: Drive): Promise<void> {
    const { store, log, serialiser } = this.#parts
    return serialiser.run(`drive ${drive.id}`, async () => {
      if (store.get(drive.id)?.attachedTo) throw new MortarError('drive-attached', drive.name)
      store.remove(drive.id)
      await removeVolume(this.#path(drive.id))
      log.info('drive.deleted', { drive: drive.id })
    })
  }

  #path(id: string): string {
    return drivePath(this.#parts.dataDir, id)
  }

  #volume(drive: Drive): DriveVolume {
    return { driveId: drive.id, path: this.#path(drive.id), serial: drive.serial }
  }
}
