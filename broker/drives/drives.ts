/** Drives at the broker: files it cannot read, plugged into one VM at a time. */
import { join } from 'node:path'
import type { z } from 'zod'
import type { Drive, driveCreate } from '../../protocol/control/api.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { User } from '../auth/login.ts'
import type { DataDir } from '../data-dir.ts'
import type { DriveVolume, HypervisorDriver } from '../hypervisor/driver.ts'
import { createVolume, removeVolume, requireSpace } from '../images/volume.ts'
import type { Log } from '../log.ts'
import type { Serialiser } from '../serialise.ts'
import type { DriveStore } from '../store/drive-store.ts'
import type { VmRecord } from '../store/vm-store.ts'
import { RUNNING } from '../vms/states.ts'
import type { VmBook } from '../vms/vm-book.ts'

export interface DrivesParts {
  readonly store: DriveStore
  readonly book: VmBook
  readonly driver: HypervisorDriver
  readonly dataDir: DataDir
  readonly clock: Clock
  readonly log: Log
  readonly serialiser: Serialiser
}

export class Drives {
  readonly #parts: DrivesParts

  constructor(parts: DrivesParts) {
    this.#parts = parts
  }

  /** Makes a sparse volume. Fails with drive-exists or no-space. */
  async create(user: User, request: z.output<typeof driveCreate>): Promise<Drive> {
    const { store, dataDir, clock, log } = this.#parts
    await requireSpace(dataDir.drives, request.sizeBytes)
    const drive: Drive = {
      ...request,
      owner: user.key,
      attachedTo: null,
      serial: request.id.replaceAll('-', '').slice(0, 20),
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
      const holder = store.get(drive.id)?.attachedTo
      if (holder !== vm.id) {
        throw new MortarError('drive-attached', `${drive.name}, by ${book.get(holder ?? '')?.name ?? 'another VM'}`)
      }
      try {
        await driver.attachDrive(vm.id, this.#volume(drive))
      } catch (cause) {
        if (claimed) store.release(drive.id)
        throw cause
      }
      if (claimed) book.note(vm.id, `drive ${drive.name} attached`)
      log.info('drive.attached', { drive: drive.id, vm: vm.id })
    })
    return store.get(drive.id) ?? drive
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
      store.release(drive.id)
      book.note(vm, `drive ${drive.name} detached`)
      log.info('drive.detached', { drive: drive.id, vm })
    })
    return store.get(drive.id) ?? drive
  }

  /** Removes the volume and all that is on it. Fails with drive-attached. */
  async delete(drive: Drive): Promise<void> {
    if (this.#parts.store.get(drive.id)?.attachedTo) throw new MortarError('drive-attached', drive.name)
    this.#parts.store.remove(drive.id)
    await removeVolume(this.#path(drive.id))
    this.#parts.log.info('drive.deleted', { drive: drive.id })
  }

  #path(id: string): string {
    return join(this.#parts.dataDir.drives, `${id}.raw`)
  }

  #volume(drive: Drive): DriveVolume {
    return { driveId: drive.id, path: this.#path(drive.id), serial: drive.serial }
  }
}
