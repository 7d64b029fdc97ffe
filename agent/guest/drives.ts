/**
 * Drives: LUKS2 volumes found by serial, formatted, opened and mounted below /drives. One change at a time; one whose call
 * was cancelled while it waited is not made. SPEC §9.4
 */
import { existsSync, mkdirSync, readFileSync, realpathSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { basename, join } from 'node:path'
import { equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { clock, sleep } from '../clock.ts'
import { type Device, listDevices, mountPointOf } from './block-devices.ts'
import { headerDigest, isBlank, isLuks, luksClose, luksFormat, luksOpen, luksTest, readHeader } from './luks.ts'
import type { Runner } from './runner.ts'
import { hasSwapOnDisk } from './swap.ts'
import { runTool } from './tool.ts'
import type { User } from './users.ts'

/** ms that a hot-plugged device may take to appear */
const APPEAR_MS = 10_000
const MOUNTS = '/drives'

/** device, directory, options, owner of a fresh file system */
const MOUNT = `set -e
mkdir -p -- "$2"
mount -t ext4 -o "$3" -- "$1" "$2" || { code=$?; rmdir -- "$2"; exit $code; }
if [ "$(stat -c %u "$2")" = 0 ] && [ -z "$(ls -A "$2" | grep -vx lost+found)" ]; then chown "$4" "$2" || true; fi`
const UNMOUNT = 'umount -- "$1" && rmdir -- "$1"'

export type DriveState = 'blank' | 'locked' | 'open' | 'mounted' | 'foreign'

export interface Mounted {
  readonly mountPoint: string
  readonly sizeBytes: number
  readonly freeBytes: number
}

export interface FormatOptions {
  readonly id: string
  readonly label: string
  readonly erase: boolean
  /** 64 bytes, the caller's to wipe */
  readonly key: Uint8Array
  /** as of UnlockOptions */
  readonly signal: AbortSignal
}

export interface UnlockOptions {
  /** SHA-256 of the header area, which the owner keeps */
  readonly headerDigest: Uint8Array
  readonly mountName: string
  readonly readOnly: boolean
  /** gets the root of a fresh file system */
  readonly user: User
  /** 64 bytes, the caller's to wipe */
  readonly key: Uint8Array
  /** aborted when the caller may or will no longer: what has not begun by then is not begun */
  readonly signal: AbortSignal
}

export class Drives {
  readonly #runner: Runner
  readonly #folder: string
  #last: Promise<unknown> = Promise.resolve()

  /** `directory`: on tmpfs, root's only. */
  constructor(runner: Runner, directory: string) {
    this.#runner = runner
    this.#folder = join(directory, 'headers')
    rmSync(this.#folder, { recursive: true, force: true })
  }

  /** The device of that serial; waits for one that is being plugged in. Fails with drive-detached. */
  async find(serial: string): Promise<Device> {
    const giveUp = clock.now() + APPEAR_MS
    for (;;) {
      const device = deviceOf(serial)
      if (device) return device
      if (clock.now() >= giveUp) throw new MortarError('drive-detached', serial)
      await sleep(200)
    }
  }

  /** Fails with drive-busy while it is open, and with drive-not-empty when it holds anything and `erase` is not given. */
  async requireFormattable(device: Device, erase: boolean): Promise<void> {
    const mounted = mountPoint(mappingPath(device.serial)) ?? mountPoint(device.path)
    if (mounted) throw new MortarError('drive-busy', `mounted at ${mounted}`)
    if (!erase && !(await holdsNothing(device))) throw new MortarError('drive-not-empty', device.serial)
  }

  /** Writes a LUKS2 header and an ext4 file system. Resolves with the header's digest. Fails with the above, or drive-failed. */
  format(device: Device, options: FormatOptions): Promise<Uint8Array> {
    return this.#alone(options.signal, async () => {
      requireNoSwap()
      requireThere(device)
      await this.requireFormattable(device, options.erase)
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

  /** Opens and mounts a drive; one that is mounted there already is only checked. Fails with drive-blank, drive-header, drive-key-wrong, drive-busy or drive-failed. */
  unlock(device: Device, options: UnlockOptions): Promise<Mounted> {
    return this.#alone(options.signal, async () => {
      requireNoSwap()
      requireThere(device)
      const target = join(MOUNTS, options.mountName)
      const header = await this.#readCheckedHeader(device, options.headerDigest)
      const already = mountPoint(mappingPath(device.serial))
      if (already && already !== target) throw new MortarError('drive-busy', `mounted at ${already}`)
      if (already) requireBacked(device)
      else if (mountsAt(target)) throw new MortarError('drive-busy', `${target} is taken`)
      else await closeLeftOver(device)
      await this.#withHeader(device, async headerPath => {
        const { readOnly, key, signal } = options
        signal.throwIfAborted()
        writeFileSync(headerPath, header, { mode: 0o600 })
        if (already) await luksTest(device.path, headerPath, key)
        else await luksOpen(device.path, { name: mappingName(device.serial), headerPath, readOnly, key })
      })
      if (!already) await this.#mount(device, target, options)
      const { blocks, bavail, bsize } = statfsSync(target)
      return { mountPoint: target, sizeBytes: blocks * bsize, freeBytes: bavail * bsize }
    })
  }

  /** Unmounts and closes. What is locked already stays so. Fails with drive-busy, and drive-detached when there is no such drive. */
  lock(serial: string, signal: AbortSignal): Promise<void> {
    return this.#alone(signal, async () => {
      const mounted = mountPoint(mappingPath(serial))
      if (mounted) {
        const { code, stderr } = await this.#runner.asRoot(['/bin/sh', '-c', UNMOUNT, 'sh', mounted])
        if (code !== 0) throw new MortarError('drive-busy', stderr.trim())
      }
      if (isOpen(serial)) await closeMapping(mappingName(serial))
      else if (!listDevices().some(device => device.serial === serial)) throw new MortarError('drive-detached', serial)
    })
  }

  async list(): Promise<{ serial: string; state: DriveState; sizeBytes: number; mountPoint: string | null }[]> {
    const drives = []
    for (const device of listDevices().slice(0, 64)) {
      const { serial, sizeBytes } = device
      // one that cannot be read must not hide the others
      const state = await stateOf(device).catch((): DriveState => 'foreign')
      drives.push({ serial, state, sizeBytes, mountPoint: mountPoint(mappingPath(serial)) })
    }
    return drives
  }

  async #readCheckedHeader(device: Device, digest: Uint8Array): Promise<Buffer> {
    const header = await readHeader(device.path)
    if (equalBytes(headerDigest(header), digest)) return header
    if (await isBlank(device.path, device.sizeBytes)) throw new MortarError('drive-blank', device.serial)
    throw new MortarError('drive-header', device.serial)
  }

  async #mount(device: Device, target: string, { readOnly, user, signal }: UnlockOptions): Promise<void> {
    if (signal.aborted) {
      await closeMapping(mappingName(device.serial))
      throw signal.reason
    }
    const flags = ['nosuid', 'nodev', readOnly ? 'ro' : 'rw'].join()
    const script = ['/bin/sh', '-c', MOUNT, 'sh', mappingPath(device.serial), target, flags, `${user.uid}:${user.gid}`]
    const { code, stderr } = await this.#runner.asRoot(script)
    if (code === 0) return
    await closeMapping(mappingName(device.serial))
    throw new MortarError('drive-failed', `mount gave ${code}: ${stderr.trim()}`)
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

  #alone<T>(signal: AbortSignal, run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(() => {
      signal.throwIfAborted()
      return run()
    })
    this.#last = result.catch(() => undefined)
    return result
  }
}

function mappingName(serial: string): string {
  return `mortar-${serial}`
}

function mappingPath(serial: string): string {
  return `/dev/mapper/${mappingName(serial)}`
}

function isOpen(serial: string): boolean {
  return existsSync(mappingPath(serial))
}

function mountPoint(path: string): string | null {
  return mountPointOf(path, readFileSync('/proc/self/mountinfo', 'utf8'))
}

function mountsAt(target: string): boolean {
  return readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${target} `)
}

/** The one device of a serial. Fails with drive-failed when several claim it. */
function deviceOf(serial: string): Device | undefined {
  const devices = listDevices().filter(device => device.serial === serial && device.sizeBytes > 0)
  if (devices.length > 1) throw new MortarError('drive-failed', `several devices have serial ${serial}`)
  return devices[0]
}

/** A path may have come to name another drive while the key was on its way. Fails with drive-detached. */
function requireThere(device: Device): void {
  if (deviceOf(device.serial)?.path !== device.path) throw new MortarError('drive-detached', device.serial)
}

/** A mapping outlives a device that was pulled out. Fails with drive-busy when the device is not the one below it. */
function requireBacked(device: Device): void {
  const below = join('/sys/block', basename(realpathSync(mappingPath(device.serial))), 'slaves')
  if (existsSync(below) && !existsSync(join(below, basename(device.path))))
    throw new MortarError('drive-busy', 'it was pulled out while it was mounted: lock it first')
}

/** An agent that was ended amid its work leaves a mapping that nothing is mounted from. Fails with drive-busy when it is in use. */
async function closeLeftOver(device: Device): Promise<void> {
  if (isOpen(device.serial)) await closeMapping(mappingName(device.serial))
}

/** udev may look at a new mapping for a moment. Fails with drive-busy. */
async function closeMapping(name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await luksClose(name)
    } catch (thrown) {
      if (attempt === 5) throw thrown
      await sleep(200 * attempt)
    }
  }
}

async function holdsNothing(device: Device): Promise<boolean> {
  if (!(await isBlank(device.path, device.sizeBytes))) return false
  // blkid -p gives 2 when it finds nothing that it knows
  return (await runTool('blkid', ['-p', device.path])).code === 2
}

async function stateOf(device: Device): Promise<DriveState> {
  if (mountPoint(mappingPath(device.serial))) return 'mounted'
  if (isOpen(device.serial)) return 'open'
  if (await isBlank(device.path, device.sizeBytes)) return 'blank'
  return isLuks(await readHeader(device.path)) ? 'locked' : 'foreign'
}

/** A key in memory that can be swapped out is a key on a disk. */
function requireNoSwap(): void {
  if (hasSwapOnDisk()) throw new MortarError('drive-failed', 'the guest has swap')
}
