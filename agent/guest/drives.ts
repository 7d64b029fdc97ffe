/** Drives: LUKS2 volumes found by serial, formatted, opened and mounted below /drives. One change at a time. SPEC §9.4 */
import { existsSync, mkdirSync, readFileSync, rmSync, statfsSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { clock, sleep } from '../clock.ts'
import { type Device, listDevices, mountPointOf } from './block-devices.ts'
import { headerDigest, isBlank, isLuks, luksClose, luksFormat, luksOpen, luksTest, readHeader } from './luks.ts'
import type { Runner } from './runner.ts'
import { runTool } from './tool.ts'
import type { User } from './users.ts'

/** ms that a hot-plugged device may take to appear */
const APPEAR_MS = 10_000
const MOUNTS = '/drives'

/** device, directory, options, owner of a fresh file system */
const MOUNT = `set -e
mkdir -p -- "$2"
mount -t ext4 -o "$3" -- "$1" "$2"
if [ "$(stat -c %u "$2")" = 0 ] && [ -z "$(ls -A "$2" | grep -vx lost+found)" ]; then chown "$4" "$2" || true; fi`
const UNMOUNT = 'umount -- "$1" && rmdir -- "$1"'

export type DriveState = 'blank' | 'locked' | 'open' | 'mounted' | 'foreign'

export interface Mounted {
  readonly mountPoint: string
  readonly sizeBytes: number
  readonly freeBytes: number
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
      const device = listDevices().find(candidate => candidate.serial === serial)
      if (device && device.sizeBytes > 0) return device
      if (clock.now() >= giveUp) throw new MortarError('drive-detached', serial)
      await sleep(200)
    }
  }

  /** Fails with drive-busy while it is open, and with drive-not-empty when it holds anything and `erase` is not given. */
  async requireFormattable(device: Device, erase: boolean): Promise<void> {
    if (isOpen(device.serial) || mountPoint(device.path)) throw new MortarError('drive-busy', device.serial)
    if (!erase && !(await holdsNothing(device))) throw new MortarError('drive-not-empty', device.serial)
  }

  /** Writes a LUKS2 header and an ext4 file system. Resolves with the header's digest. Fails with the above, or drive-failed. */
  format(device: Device, options: { id: string; label: string; erase: boolean; key: Uint8Array }): Promise<Uint8Array> {
    return this.#alone(async () => {
      requireNoSwap()
      await this.requireFormattable(device, options.erase)
      await luksFormat(device.path, options)
      const header = await readHeader(device.path)
      const name = mappingName(device.serial)
      await this.#withHeader(device, header, headerPath =>
        luksOpen(device.path, { name, headerPath, readOnly: false, key: options.key }),
      )
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
    return this.#alone(async () => {
      requireNoSwap()
      const target = join(MOUNTS, options.mountName)
      const header = await this.#readCheckedHeader(device, options.headerDigest)
      const already = mountPoint(mappingPath(device.serial))
      if (already && already !== target) throw new MortarError('drive-busy', `mounted at ${already}`)
      await this.#withHeader(device, header, async headerPath => {
        const { readOnly, key } = options
        if (isOpen(device.serial)) await luksTest(device.path, headerPath, key)
        else await luksOpen(device.path, { name: mappingName(device.serial), headerPath, readOnly, key })
      })
      if (!already) await this.#mount(device, target, options)
      const { blocks, bavail, bsize } = statfsSync(target)
      return { mountPoint: target, sizeBytes: blocks * bsize, freeBytes: bavail * bsize }
    })
  }

  /** Unmounts and closes. What is locked already stays so. Fails with drive-busy, and drive-detached when there is no such drive. */
  lock(serial: string): Promise<void> {
    return this.#alone(async () => {
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
    const drives = listDevices().slice(0, 64)
    return Promise.all(
      drives.map(async device => ({
        serial: device.serial,
        state: await stateOf(device),
        sizeBytes: device.sizeBytes,
        mountPoint: mountPoint(mappingPath(device.serial)),
      })),
    )
  }

  async #readCheckedHeader(device: Device, digest: Uint8Array): Promise<Buffer> {
    const header = await readHeader(device.path)
    if (equalBytes(headerDigest(header), digest)) return header
    if (await isBlank(device.path, device.sizeBytes)) throw new MortarError('drive-blank', device.serial)
    throw new MortarError('drive-header', device.serial)
  }

  async #mount(device: Device, target: string, { readOnly, user }: UnlockOptions): Promise<void> {
    if (mountsAt(target)) throw new MortarError('drive-busy', `${target} is taken`)
    const flags = ['nosuid', 'nodev', readOnly ? 'ro' : 'rw'].join()
    const script = ['/bin/sh', '-c', MOUNT, 'sh', mappingPath(device.serial), target, flags, `${user.uid}:${user.gid}`]
    const { code, stderr } = await this.#runner.asRoot(script)
    if (code === 0) return
    await closeMapping(mappingName(device.serial))
    throw new MortarError('drive-failed', `mount gave ${code}: ${stderr.trim()}`)
  }

  /** The checked header as a file in the guest's memory while `use` runs. */
  async #withHeader(device: Device, header: Buffer, use: (path: string) => Promise<void>): Promise<void> {
    mkdirSync(this.#folder, { recursive: true, mode: 0o700 })
    const path = join(this.#folder, device.serial)
    writeFileSync(path, header, { mode: 0o600 })
    try {
      await use(path)
    } finally {
      rmSync(path, { force: true })
    }
  }

  #alone<T>(run: () => Promise<T>): Promise<T> {
    const result = this.#last.then(run)
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

/** A key in memory that can be swapped out is a key on a disk; compressed memory is memory. */
function requireNoSwap(): void {
  const swaps = readFileSync('/proc/swaps', 'utf8').trim().split('\n').slice(1)
  if (swaps.some(line => !line.startsWith('/dev/zram'))) throw new MortarError('drive-failed', 'the guest has swap')
}
