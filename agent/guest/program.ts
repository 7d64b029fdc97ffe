/** Finds the program that argv names, as a shell would, so that what cannot be started is refused before it is tried. */
import { closeSync, openSync, readSync, type Stats, statSync } from 'node:fs'
import { join, resolve } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import type { User } from './users.ts'

export const DEFAULT_PATH = '/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin'

/** argv with an absolute program; a script without an interpreter line is given to sh. Fails with exec-not-found or exec-failed. */
export function resolveProgram(argv: readonly string[], user: User, cwd: string, path = DEFAULT_PATH): string[] {
  const [name = '', ...rest] = argv
  const candidates = name.includes('/')
    ? [resolve(cwd, name)]
    : path.split(':').map(folder => join(folder || cwd, name))
  let forbidden = false
  for (const candidate of name === '' ? [] : candidates) {
    const stats = statsOf(candidate)
    if (!stats) continue
    if (stats.isFile() && mayExecute(stats, user)) return [...interpreterOf(candidate), candidate, ...rest]
    forbidden = true
  }
  throw new MortarError(forbidden ? 'exec-failed' : 'exec-not-found', name)
}

function statsOf(path: string): Stats | null {
  try {
    return statSync(path)
  } catch {
    return null
  }
}

function mayExecute(stats: Stats, user: User): boolean {
  if (user.uid === 0) return (stats.mode & 0o111) !== 0
  const shift = stats.uid === user.uid ? 6 : user.groups.includes(stats.gid) ? 3 : 0
  return ((stats.mode >> shift) & 1) === 1
}

/** What execvp does on ENOEXEC: neither ELF nor `#!` means sh. */
function interpreterOf(path: string): string[] {
  const magic = new Uint8Array(4)
  let file: number | undefined
  try {
    file = openSync(path, 'r')
    readSync(file, magic)
  } catch {
    // may be executed but not read: no script then
    return []
  } finally {
    if (file !== undefined) closeSync(file)
  }
  const isElf = magic[0] === 0x7f && magic[1] === 0x45 && magic[2] === 0x4c && magic[3] === 0x46
  const isScript = magic[0] === 0x23 && magic[1] === 0x21
  return isElf || isScript ? [] : ['/bin/sh']
}
