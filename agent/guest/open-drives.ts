/** What the kernel has of drives: devices by serial, mappings, mounts. Nothing here changes one, but for closing a mapping. */
import { existsSync, readFileSync, realpathSync, statfsSync } from 'node:fs'
import { basename, join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import { sleep } from '../process/clock.ts'
import { type Device, listDevices, type Mount, mountOf, theDevice } from './block-devices.ts'
import { isBlank, luksClose } from './luks.ts'
import { runTool } from './tool.ts'
import { hasSystemd } from './tool-as-root.ts'

export type DriveState = 'blank' | 'locked' | 'open' | 'mounted' | 'foreign'

export interface Mounted {
  readonly mountPoint: string
  readonly sizeBytes: number
  readonly freeBytes: number
  readonly readOnly: boolean
}

/** A drive as drive-list tells of it. */
export interface ListedDrive {
  readonly serial: string
  readonly state: DriveState
  readonly sizeBytes: number
  readonly mountPoint: string | null
  /** null unless it is mounted */
  readonly readOnly: boolean | null
}

export function mappingName(serial: string): string {
  return `mortar-${serial}`
}

export function mappingPath(serial: string): string {
  return `/dev/mapper/${mappingName(serial)}`
}

export function isOpen(serial: string): boolean {
  return existsSync(mappingPath(serial))
}

/** Whether a drive is mounted. */
export function isMounted(serial: string): boolean {
  return mountFrom(mappingPath(serial)) !== null
}

/** what is mounted for everybody: systemd gives the agent mounts of its own, where others are read-only */
const MOUNTS = hasSystemd() ? '/proc/1/mountinfo' : '/proc/self/mountinfo'

export function mountFrom(path: string): Mount | null {
  return mountOf(path, readFileSync(MOUNTS, 'utf8'))
}

/** What the kernel says of a drive that is said to be mounted. Fails with drive-failed when it says otherwise. */
export function mountedAt(device: Device, target: string, readOnly: boolean): Mounted {
  const mount = mountFrom(mappingPath(device.serial))
  if (mount?.mountPoint !== target || mount.readOnly !== readOnly) {
    throw new MortarError('drive-failed', `not mounted at ${target} as it was asked`)
  }
  const { blocks, bavail, bsize } = statfsSync(target)
  return { mountPoint: target, sizeBytes: blocks * bsize, freeBytes: bavail * bsize, readOnly: mount.readOnly }
}

/** Fails with drive-busy when it is mounted in the other way, or from a device that is not there any more. */
export function requireSame(device: Device, mount: Mount, readOnly: boolean): void {
  if (mount.readOnly !== readOnly) {
    throw new MortarError('drive-busy', `mounted ${mount.readOnly ? 'read-only' : 'for writing'}: lock it first`)
  }
  requireBacked(device)
}

/** Major and minor number of an open drive, as 254:0. */
export function numbersOf(serial: string): string {
  const name = basename(realpathSync(mappingPath(serial)))
  return readFileSync(join('/sys/block', name, 'dev'), 'utf8').trim()
}

export function mountsAt(target: string): boolean {
  return readFileSync(MOUNTS, 'utf8').includes(` ${target} `)
}

/** A path may have come to name another drive while the key was on its way. Fails with drive-detached. */
export function requireThere(device: Device): void {
  if (theDevice(listDevices(), device.serial)?.path !== device.path)
    throw new MortarError('drive-detached', device.serial)
}

/** A mapping outlives a device that was pulled out. Fails with drive-busy when the device is not the one below it. */
function requireBacked(device: Device): void {
  const below = join('/sys/block', basename(realpathSync(mappingPath(device.serial))), 'slaves')
  if (existsSync(below) && !existsSync(join(below, basename(device.path))))
    throw new MortarError('drive-busy', 'it was pulled out while it was mounted: lock it first')
}

/** An agent that was ended amid its work leaves a mapping that nothing is mounted from. Fails with drive-busy when it is in use. */
export async function closeLeftOver(device: Device): Promise<void> {
  if (isOpen(device.serial)) await closeMapping(mappingName(device.serial))
}

/** udev may look at a new mapping for a moment. Fails with drive-busy. */
export async function closeMapping(name: string): Promise<void> {
  for (let attempt = 1; ; attempt++) {
    try {
      return await luksClose(name)
    } catch (thrown) {
      if (attempt === 5) throw thrown
      await sleep(200 * attempt)
    }
  }
}

export async function holdsNothing(device: Device): Promise<boolean> {
  if (!(await isBlank(device.path, device.sizeBytes))) return false
  // blkid -p gives 2 when it finds nothing that it knows
  return (await runTool('blkid', ['-p', device.path])).code === 2
}
