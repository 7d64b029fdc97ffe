/**
 * Pseudo terminals through node-pty's native part, which is the one thing used of that package. In the single executable
 * it is an asset; a file of it exists only while it is loaded, and not below /run, which is mounted noexec.
 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { getRawAsset, isSea } from 'node:sea'
import { ReadStream } from 'node:tty'
import { MortarError } from '../../protocol/core/errors.ts'
import type { TerminalSize } from './runner.ts'

interface NativePty {
  open(cols: number, rows: number): { master: number; slave: number; pty: string }
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

/** The native part, loaded at the first terminal. Fails with internal. */
export function nativePty(): NativePty {
  if (loaded) return loaded
  const module = { exports: {} as unknown }
  try {
    if (isSea()) loadAsset(module)
    else {
      const packageName = `node-pty-linux-${process.arch}`
      process.dlopen(module, join(import.meta.dirname, '../../node_modules/@lydell', packageName, 'pty.node'))
    }
  } catch (cause) {
    throw new MortarError('internal', 'the terminal module cannot be loaded', { cause })
  }
  loaded = module.exports as NativePty
  return loaded
}

function loadAsset(module: object): void {
  const folder = mkdtempSync(join(process.env.STATE_DIRECTORY ?? tmpdir(), 'pty-'))
  try {
    const path = join(folder, 'pty.node')
    writeFileSync(path, new Uint8Array(getRawAsset('pty.node')), { mode: 0o500 })
    process.dlopen(module, path)
  } finally {
    rmSync(folder, { recursive: true, force: true })
  }
}

/** The master's end: bytes in, bytes out, size. */
export class PtyMaster {
  readonly #fd: number
  readonly #stream: ReadStream
  #closed = false

  /** Owns the file descriptor. */
  constructor(fd: number) {
    this.#fd = fd
    this.#stream = new ReadStream(fd)
    this.#stream.on('close', () => {
      this.#closed = true
    })
    // what EIO means is said in output(); without a listener it would end the agent
    this.#stream.on('error', () => {})
    this.#stream.pause()
  }

  /** Calls back for each piece, one at a time; resolves at the end: EIO, once nobody holds the slave and all is read. */
  async output(take: (bytes: Uint8Array) => Promise<void>): Promise<void> {
    const stream = this.#stream
    await new Promise<void>((resolve, reject) => {
      let taking: Promise<void> = Promise.resolve()
      const end = () => void taking.then(resolve, reject)
      stream.on('data', (bytes: Buffer) => {
        stream.pause()
        taking = take(bytes).then(
          () => void stream.resume(),
          thrown => {
            reject(thrown)
            this.close()
          },
        )
      })
      stream.on('close', end)
      stream.on('end', end)
      if (this.#closed) end()
      else stream.resume()
    })
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.resolve()
    return new Promise(resolve => this.#stream.write(bytes, () => resolve()))
  }

  resize({ cols, rows }: TerminalSize): void {
    if (!this.#closed) nativePty().resize(this.#fd, cols, rows)
  }

  /** Hangs up: the programs on the terminal get SIGHUP. */
  close(): void {
    this.#closed = true
    this.#stream.destroy()
  }
}
