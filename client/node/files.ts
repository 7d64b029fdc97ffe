/** Files of the user's own: read with a limit, written whole or not at all, for nobody else to read. */
import { randomUUID } from 'node:crypto'
import { link, mkdir, open, rename, rm } from 'node:fs/promises'
import { dirname } from 'node:path'

/** True for the error of a path that does not exist. */
export function isAbsent(thrown: unknown): boolean {
  return hasCode(thrown, 'ENOENT')
}

export function hasCode(thrown: unknown, code: string): boolean {
  return thrown instanceof Error && 'code' in thrown && thrown.code === code
}

/** Bytes of a regular file and its mode; null when there is none. Throws a RangeError above `limitBytes`. */
export async function readLimited(
  path: string,
  limitBytes: number,
): Promise<{ bytes: Uint8Array; mode: number } | null> {
  let file: Awaited<ReturnType<typeof open>>
  try {
    file = await open(path, 'r')
  } catch (thrown) {
    if (isAbsent(thrown)) return null
    throw thrown
  }
  try {
    const { mode, size } = await file.stat()
    if (size > limitBytes) throw new RangeError(`${path} is longer than ${limitBytes} bytes`)
    const buffer = new Uint8Array(limitBytes)
    let length = 0
    // a pipe says no size beforehand
    while (length < limitBytes) {
      const { bytesRead } = await file.read(buffer, length, limitBytes - length)
      if (bytesRead === 0) break
      length += bytesRead
    }
    return { bytes: buffer.subarray(0, length), mode }
  } finally {
    await file.close()
  }
}

/**
 * Writes a file with mode 0600 in a folder of mode 0700. It appears whole, replacing one that is there; with `fresh` it
 * replaces nothing and fails with EEXIST instead.
 */
export async function writeWhole(path: string, bytes: Uint8Array, fresh = false): Promise<void> {
  await mkdir(dirname(path), { recursive: true, mode: 0o700 })
  const partial = `${path}.${randomUUID()}.partial`
  try {
    const file = await open(partial, 'wx', 0o600)
    try {
      await file.writeFile(bytes)
      await file.sync()
    } finally {
      await file.close()
    }
    if (fresh) await link(partial, path)
    else await rename(partial, path)
  } finally {
    await rm(partial, { force: true })
  }
}
