/**
 * Pseudo terminals through node-pty's native part, which is the one thing used of that package. In the single executable
 * it is an asset; a file of it exists only while it is loaded, and not below /run, which is mounted noexec.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getRawAsset, isSea } from 'node:sea'

interface NativePty {
  fork(
    file: string,
    args: readonly string[],
    env: readonly string[],
    cwd: string,
    cols: number,
    rows: number,
    uid: number,
    gid: number,
    utf8: boolean,
    helper: string,
    onExit: (code: number, signal: number) => void,
  ): { fd: number; pid: number; pty: string }
  resize(fd: number, cols: number, rows: number): void
}

let loaded: NativePty | undefined

/** The native part, loaded at the first terminal. Throws when it cannot be. */
export function nativePty(): NativePty {
  if (loaded) return loaded
  const module = { exports: {} as unknown }
  if (isSea()) loadAsset(module)
  else {
    const packageName = `node-pty-linux-${process.arch}`
    process.dlopen(module, join(import.meta.dirname, '../../node_modules/@lydell', packageName, 'pty.node'))
  }
  loaded = module.exports as NativePty
  return loaded
}

function loadAsset(module: object): void {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-pty-'))
  try {
    const path = join(folder, 'pty.node')
    writeFileSync(path, new Uint8Array(getRawAsset('pty.node')), { mode: 0o500 })
    process.dlopen(module, path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}
