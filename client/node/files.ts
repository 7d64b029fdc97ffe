/** Files of the user's own: read with a limit, written whole or not at all, for nobody else to read or change. */
import { randomUUID } from 'node:crypto'
import { link, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'
import { asMortarError, type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'

/** rights of group and others to write */
const WRITABLE_BY_OTHERS = 0o022
const ROOT = 0
const CODES: Readonly<Record<string, ErrorCode>> = {
  EACCES: 'denied',
  EPERM: 'denied',
  EROFS: 'denied',
  ENOSPC: 'no-space',
  EDQUOT: 'no-space',
}

export interface OwnFile {
  readonly bytes: Uint8Array
  /** permission bits */
  readonly mode: number
  /** uid of the owner */
  readonly owner: number
}

/** True for the error of a path that does not exist. */
export function isAbsent(thrown: unknown): boolean {
  return hasCode(thrown, 'ENOENT')
}

export function hasCode(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === code
}

function hasSyscall(thrown: unknown, syscall: string): boolean {
  return thrown instanceof Error && 'syscall' in thrown && thrown.syscall === syscall
}

/** Bytes of a file, its mode and owner; null when there is none. Throws a RangeError above `limitBytes`. */
export async function readLimited(path: string, limitBytes: number): Promise<OwnFile | null> {
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path, 'r')
  } catch (thrown) {
    if (isAbsent(thrown)) return null
    throw thrown
  }
  const buffer = new Uint8Array(limitBytes)
  try {
    // of the file that is open, whatever the path leads to by now
    const { mode, size, uid } = await file.stat()
    if (size > limitBytes) throw new RangeError(`${path} is longer than ${limitBytes} bytes`)
    let length = 0
    // a pipe says no size beforehand
    while (length < limitBytes) {
      const { bytesRead } = await file.read(buffer, length, limitBytes - length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return { bytes: buffer.subarray(0, length), mode, owner: uid }
  } catch (thrown) {
    wipe(buffer)
    throw thrown
  } finally {
    await file.close()
  }
}

/** True for a file of ours or of root's. */
export const isOurs = ({ owner }: OwnFile): boolean => owner === process.geteuid?.() || owner === ROOT

/** Like readLimited, for what must be as we wrote it. Fails with denied when somebody else owns it or can change it. */
export async function readTrusted(path: string, limitBytes: number): Promise<OwnFile | null> {
  const file = await readLimited(path, limitBytes)
  if (file && (!isOurs(file) || (file.mode & WRITABLE_BY_OTHERS) !== 0)) {
    throw new MortarError(
      'denied',
      `${path} can be changed by others; see whether they did, then chown and chmod 600 it`,
    )
  }
  return file
}

/**
 * Writes a file with mode 0600 in a folder of mode 0700. It appears whole, replacing one that is there; with `fresh` it
 * replaces nothing and throws EEXIST instead. Fails with denied, no-space, internal.
 */
export async function writeWhole(path: string, bytes: Uint8Array, fresh = false): Promise<void> {
  const partial = `${path}.${randomUUID()}.partial`
  try {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    const file = await open(partial, 'wx', 0o600)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    if (fresh) await link(partial, path)
    else await rename(partial, path)
  } catch (thrown) {
    // of the link, not of a folder above that is a file
    if (fresh && hasCode(thrown, 'EEXIST') && !hasSyscall(thrown, 'mkdir')) throw thrown
    throw unwritable(path, thrown)
  } finally {
    await rm(partial, { force: true }).catch(() => undefined)
  }
}

function unwritable(path: string, thrown: unknown): MortarError {
  const code = thrown instanceof Error && 'code' in thrown ? String(thrown.code) : ''
  const detail = `${path} cannot be written (${asMortarError(thrown).detail})`
  return new MortarError(CODES[code] ?? 'internal', detail, { cause: thrown })
}
