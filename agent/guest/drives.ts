/**
 * Drives: LUKS2 volumes found by serial, formatted, opened and mounted below /drives. One change of a drive at a time; one whose
 * call was cancelled while it waited is not made. What is told of a mount is what the kernel says of it. SPEC §9.4
 */
import { mkdirSync, rmSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { equalBytes } from '../../protocol/core/bytes.ts'
import { type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { type Device, listDevices } from './block-devices.ts'
import { DeviceWatch } from './device-watch.ts'
import { type Holder, holdersOf, mountersOf } from './drive-holders.ts'
import { DriveLooks } from './drive-looks.ts'
import type { DrivePeople } from './drive-people.ts'
import { mountCommand, RECORD_CONFLICTS, RECORD_DAMAGED, UNPREPARED, unmountCommand } from './drive-scripts.ts'
import { headerDigest, isBlank, luksFormat, luksOpen, luksTest, readHeader } from './luks.ts'
import {
  closeLeftOver,
  closeMapping,
  holdsNothing,
  isOpen,
  type ListedDrive,
  type Mounted,
  mappingName,
  mappingPath,
  mountedAt,
  mountFrom,
  mountsAt,
  numbersOf,
  requireSame,
  requireThere,
} from './open-drives.ts'
import type { Runner } from './runner.ts'
import { hasSwapOnDisk } from './swap.ts'
import { runTool } from './tool.ts'
import { type Turn, Turns } from './turns.ts'

const MOUNTS = '/drives'

/** exit code of the mounting script → what it means */
const MOUNT_FAILURES: Readonly<Record<number, ErrorCode>> = {
  [UNPREPARED]: 'drive-unprepared',
  [RECORD_DAMAGED]: 'drive-people',
  [RECORD_CONFLICTS]: 'drive-people',
}

/** drives that a list may have */
const LISTED = 64

export interface FormatOptions {
  readonly id: string
  readonly label: string
  readonly erase: boolean
  /** 64 bytes, the caller's to wipe */
  readonly key: Uint8Array
  /** as of UnlockOptions */
  readonly signal: AbortSignal
  readonly isOwner?: boolean
}

export interface UnlockOptions {
  readonly id: string
  /** SHA-256 of the header area, which the owner keeps */
  readonly headerDigest: Uint8Array
  readonly mountName: string
  readonly readOnly: boolean
  /** 64 bytes, the caller's to wipe */
  readonly key: Uint8Array
  /** aborted when the caller may or will no longer: what has not begun by then is not begun */
  readonly signal: AbortSignal
  /** whose turn comes before those of grantees */
  readonly isOwner?: boolean
}

export class Drives {
  readonly #runner: Runner
  readonly #people: DrivePeople
  readonly #folder: string
  /** an empty folder for mounts that nobody else sees */
  readonly #place: string
  readonly #look: () => Device[]
  readonly #watch: DeviceWatch
  readonly #looks = new DriveLooks()
  /** by serial, and by mount point */
  readonly #turns = new Turns()

  /** `directory`: on tmpfs, root's only. `look`: at the devices that there are. */
  constructor(runner: Runner, people: DrivePeople, directory: string, look: () => Device[] = listDevices) {
    this.#runner = runner
    this.#people = people
    this.#place = join(directory, 'place')
    this.#folder = join(directory, 'headers')
    this.#look = look
    this.#watch = new DeviceWatch(look)
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** The device of that serial; waits for one that is being plugged in. Fails with drive-detached. */
  find(serial: string, signal: AbortSignal): Promise<Device> {
    return this.#watch.find(serial, signal)
  }

  /** Fails with drive-busy while it is open, and with drive-not-empty when it holds anything and `erase` is not given. */
  requireFormattable(device: Device, erase: boolean): Promise<void> {
    return this.#requireFormattable(device, erase, () => this.#looks.holdsNothing(device))
  }

  async #requireFormattable(device: Device, erase: boolean, isEmpty: () => Promise<boolean>): Promise<void> {
    const mounted = mountFrom(mappingPath(device.serial)) ?? mountFrom(device.path)
    if (mounted) throw new MortarError('drive-busy', `mounted at ${mounted.mountPoint}`)
    if (!erase && !(await isEmpty())) throw new MortarError('drive-not-empty', device.serial)
  }

  /** Writes a LUKS2 header and an ext4 file system. Resolves with the header's digest. Fails with the above, or drive-failed. */
  format(device: Device, options: FormatOptions): Promise<Uint8Array> {
    return this.#turns.take([device.serial], turnOf(options), async () => {
      requireNoSwap()
      requireThere(device)
      await this.#requireFormattable(device, options.erase, () => holdsNothing(device))
      await closeLeftOver(device)
      options.signal.throwIfAborted()
      const name = mappingName(device.serial)
      const header = await this.#withHeader(device, async headerPath => {
        const made = await luksFormat(device.path, { ...options, headerPath })
        await luksOpen(device.path, { name, headerPath, readOnly: false, key: options.key })
        return made
      })
      try {
        const args = ['-q', '-F', '-m', '0', '-L', options.label, mappingPath(device.serial)]
        const { code, stderr } = await runTool('mkfs.ext4', args)
        if (code !== 0) throw new MortarError('drive-failed', `mkfs.ext4 gave ${code}: ${stderr.trim()}`)
      } finally {
        await closeMapping(name)
      }
      return headerDigest(header)
    })
  }

  /**
   * Opens and mounts a drive; one that is mounted there already, in the same way, is only checked. Fails with drive-blank,
   * drive-header, drive-key-wrong, drive-busy, drive-unprepared, drive-people or drive-failed.
   */
  unlock(device: Device, options: UnlockOptions): Promise<Mounted> {
    const target = join(MOUNTS, options.mountName)
    return this.#turns.take([device.serial, target], turnOf(options), async () => {
      requireNoSwap()
      requireThere(device)
      const { readOnly, key, signal } = options
      const header = await this.#readCheckedHeader(device, options.headerDigest)
      const already = mountFrom(mappingPath(device.serial))
      if (already && already.mountPoint !== target) {
        throw new MortarError('drive-busy', `mounted at ${already.mountPoint}`)
      }
      if (already) requireSame(device, already, readOnly)
      else if (mountsAt(target)) throw new MortarError('drive-busy', `${target} is taken`)
      else await closeLeftOver(device)
      await this.#withHeader(device, async headerPath => {
        signal.throwIfAborted()
        writeFileSync(headerPath, header, { mode: 0o600 })
        if (already) await luksTest(device.path, headerPath, key)
        else await luksOpen(device.path, { name: mappingName(device.serial), headerPath, readOnly, key })
      })
      if (!already) await this.#mount(device, options)
      return mountedAt(device, target, readOnly)
    })
  }

  /**
   * Unmounts and closes; resolves with none once the key has left the kernel. What is locked already stays so. While programs
   * use the drive it stays as it is, and those are the result. Fails with drive-busy when it cannot be told who uses it, and
   * with drive-detached when there is no such drive.
   */
  lock(serial: string, signal: AbortSignal, isOwner = false): Promise<readonly Holder[]> {
    const turn = { signal, isOwner }
    return this.#turns.take([serial], turn, async () => {
      const mounted = mountFrom(mappingPath(serial))
      if (mounted) {
        const { mountPoint } = mounted
        const unmount = () => this.#runner.asRoot(unmountCommand(this.#place, basename(mountPoint)))
        // another drive may be about to be mounted in its place
        const { code, stderr } = await this.#turns.take([mountPoint], { ...turn, isPart: true }, unmount)
        if (code !== 0) return requireSome(await holdersOf(this.#runner, mountPoint), stderr.trim())
        this.#people.forget(serial)
      }
      if (isOpen(serial)) {
        try {
          await closeMapping(mappingName(serial))
        } catch (thrown) {
          const numbers = mounted?.device ?? numbersOf(serial)
          return requireSome(await mountersOf(this.#runner, numbers), (thrown as MortarError).detail)
        }
      } else if (!this.#look().some(device => device.serial === serial)) {
        throw new MortarError('drive-detached', serial)
      }
      return []
    })
  }

  /** `visible`: of all devices those that the caller may know of; no other is looked at. */
  async list(visible: (devices: Device[]) => Device[]): Promise<ListedDrive[]> {
    const drives = []
    for (const device of visible(this.#look()).slice(0, LISTED)) {
      const { serial, sizeBytes } = device
      const state = await this.#looks.stateOf(device)
      const { mountPoint = null, readOnly = null } = mountFrom(mappingPath(serial)) ?? {}
      drives.push({ serial, state, sizeBytes, mountPoint, readOnly })
    }
    return drives
  }

  async #readCheckedHeader(device: Device, digest: Uint8Array): Promise<Buffer> {
    const header = await readHeader(device.path)
    if (equalBytes(headerDigest(header), digest)) return header
    if (await isBlank(device.path, device.sizeBytes)) throw new MortarError('drive-blank', device.serial)
    throw new MortarError('drive-header', device.serial)
  }

  async #mount(device: Device, { id, mountName: name, readOnly, signal }: UnlockOptions): Promise<void> {
    if (signal.aborted) {
      await closeMapping(mappingName(device.serial))
      throw signal.reason
    }
    const users = this.#people.linesFor(id)
    const { owner, group, all } = this.#people.numbersFor(id)
    const path = mappingPath(device.serial)
    const command = mountCommand({ device: path, readOnly, owner, group, all, place: this.#place, people: users, name })
    const { code, stdout, stderr } = await this.#runner.asRoot(command)
    if (code === 0) return this.#people.remember({ serial: device.serial, drive: id, readOnly, name }, stdout)
    await closeMapping(mappingName(device.serial))
    throw new MortarError(MOUNT_FAILURES[code] ?? 'drive-failed', `mounting gave ${code}: ${stderr.trim()}`)
  }

  /** A place for the header in the guest's memory while `use` runs. */
  async #withHeader<T>(device: Device, use: (path: string) => Promise<T>): Promise<T> {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
    const path = join(this.#folder, device.serial)
    try {
      return await use(path)
    } finally {
      rmSync(path, { force: true })
    }
  }
}

const turnOf = ({ signal, isOwner = false }: Pick<UnlockOptions, 'signal' | 'isOwner'>): Turn => ({ signal, isOwner })

/** Fails with drive-busy when there is none. */
function requireSome(holders: readonly Holder[], why: string): readonly Holder[] {
  if (holders.length === 0) throw new MortarError('drive-busy', why)
  return holders
}

/** A key in memory that can be swapped out is a key on a disk. */
function requireNoSwap(): void {
  if (hasSwapOnDisk()) throw new MortarError('drive-failed', 'the guest has swap')
}
