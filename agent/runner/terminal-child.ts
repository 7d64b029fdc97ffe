/** Starts a program on a terminal of its own, as the account that the runner is. */
import { accessSync, constants } from 'node:fs'
import { constants as system } from 'node:os'
import { ReadStream } from 'node:tty'
import { type Child, drain, killSession, type Sink, sendSignal, shared } from './child.ts'
import type { Size, Start } from './messages.ts'
import type { Exit } from './output-log.ts'
import { StartError, workingDirectory } from './piped-child.ts'
import { nativePty } from './pty.ts'

/** ms from the hang-up until a shell that ignores it is killed */
const PATIENCE_MS = 2_000

/** Fails with StartError. */
export function startOnTerminal(start: Start, { cols, rows }: Size, sink: Sink): Child {
  const [file = '', ...args] = start.argv
  try {
    accessSync(file, constants.X_OK)
  } catch (thrown) {
    throw new StartError((thrown as NodeJS.ErrnoException).code === 'EACCES' ? 'exec-failed' : 'exec-not-found')
  }
  const env = Object.entries(start.env).map(([name, value]) => `${name}=${value}`)
  const exit = Promise.withResolvers<Exit>()
  const onExit = (code: number, signal: number) =>
    exit.resolve(signal === 0 ? { code, signal: null } : { code: null, signal: signalName(signal) })
  const { fd, pid } = nativePty().fork(file, args, env, workingDirectory(start), cols, rows, -1, -1, true, '', onExit)
  return new TerminalChild(fd, pid, exit.promise, sink)
}

function signalName(signal: number): string {
  return Object.entries(system.signals).find(([, number]) => number === signal)?.[0] ?? `SIG${signal}`
}

class TerminalChild implements Child {
  readonly #fd: number
  readonly #pid: number
  readonly #master: ReadStream
  readonly closed: Promise<void>
  #ended = false

  constructor(fd: number, pid: number, exit: Promise<Exit>, sink: Sink) {
    this.#fd = fd
    this.#pid = pid
    const callback = (count: number) => sink.take(0, shared.subarray(0, count))
    const options = { onread: { buffer: shared, callback } }
    // as for any socket, which a terminal's stream is; the types know of no second argument
    this.#master = new (ReadStream as unknown as new (fd: number, options: object) => ReadStream)(fd, options)
    this.closed = new Promise(resolve => this.#master.once('close', () => resolve()))
    // EIO: nobody holds the terminal any more
    this.#master.on('error', () => {})
    this.#master.resume()
    void exit.then(ended => {
      this.#ended = true
      if (!this.#master.destroyed) drain(fd, bytes => sink.take(0, bytes))
      sink.exited(ended)
    })
  }

  write(bytes: Uint8Array): Promise<void> {
    if (this.#master.destroyed) return Promise.resolve()
    return new Promise(resolve => {
      const closed = () => resolve()
      this.#master.once('close', closed)
      this.#master.write(bytes, () => {
        this.#master.off('close', closed)
        resolve()
      })
    })
  }

  /** The client's end is a hang-up. */
  eof(): void {
    this.kill()
  }

  resize({ cols, rows }: Size): void {
    if (!this.#master.destroyed) nativePty().resize(this.#fd, cols, rows)
  }

  signal(name: string): void {
    if (!this.#ended) sendSignal(this.#pid, name as NodeJS.Signals)
  }

  kill(): void {
    this.#master.destroy()
    if (this.#ended) return
    sendSignal(this.#pid, 'SIGHUP')
    setTimeout(() => {
      if (!this.#ended) killSession(this.#pid)
    }, PATIENCE_MS)
  }

  resume(): void {
    if (!this.#master.destroyed) this.#master.resume()
  }

  close(): void {
    this.#master.destroy()
  }
}
