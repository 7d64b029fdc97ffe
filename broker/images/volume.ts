/** Files for drives, and the question whether there is room for more. */
import { open, rm, statfs } from 'node:fs/promises'
import { MortarError } from '../../protocol/core/errors.ts'
import { spaceError } from './overlay.ts'

/** Room that always stays free, so that running VMs do not stall. */
export const RESERVE_BYTES = 256 * 2 ** 20

/** Fails with no-space when `directory` has less than `neededBytes` beside the reserve. */
export async function requireSpace(directory: string, neededBytes: number): Promise<void> {
  const { bavail, bsize } = await statfs(directory)
  const freeBytes = bavail * bsize
  if (freeBytes < neededBytes + RESERVE_BYTES) {
    const mib = (bytes: number) => `${Math.ceil(bytes / 2 ** 20)} MiB`
    throw new MortarError(
      'no-space',
      `${directory} has ${mib(freeBytes)} free, ${mib(neededBytes + RESERVE_BYTES)} needed`,
    )
  }
}

/** Makes a sparse raw volume of `sizeBytes`, readable by nobody else. Fails with no-space. */
export async function createVolume(path: string, sizeBytes: number): Promise<void> {
  const file = await open(path, 'wx', 0o600)
  try {
    await file.truncate(sizeBytes)
    await file.datasync()
  } catch (cause) {
    await rm(path, { force: true })
    throw spaceError(cause, path)
  } finally {
    await file.close()
  }
}

export async function removeVolume(path: string): Promise<void> {
  await rm(path, { force: true })
}
