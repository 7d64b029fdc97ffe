/** What a runner needs of a program that runs, be it on pipes or on a terminal. */
import { readdirSync, readFileSync, readSync } from 'node:fs'
import type { Size } from './messages.ts'
import type { Exit } from './output-log.ts'

export interface Child {
  /** Input; resolves once it is taken. A program that closed its input loses it, as in a pipe. */
  write(bytes: Uint8Array): Promise<void>
  eof(): void
  resize(size: Size): void
  signal(name: string): void
  /** Ends it with its process group and session; a terminal is hung up. May be repeated. */
  kill(): void
  /** Reads on, after take() said that there is no room. */
  resume(): void
  /** Reads no more: what is written later meets a closed pipe. */
  close(): void
  /** Resolves when nobody can write to its output any more, or it was closed. */
  readonly closed: Promise<void>
}

export interface Sink {
  /** Output, on shared memory; false: no more until resume(). */
  take(lane: number, bytes: Uint8Array): boolean
  /** it has ended, and what it wrote was taken */
  exited(exit: Exit): void
}

/** bytes that a pipe can hold at most, unless root made it larger */
const PIPE_BYTES = 1_048_576
/** memory for what is read, which is taken before the next is */
export const shared = Buffer.allocUnsafe(65_536)

/** Takes what lies in a pipe or terminal at this moment, however full the log is. */
export function drain(fd: number, take: (bytes: Uint8Array) => void): void {
  try {
    for (let left = PIPE_BYTES; left > 0; ) {
      const count = readSync(fd, shared)
      if (count === 0) return
      take(shared.subarray(0, count))
      left -= count
    }
  } catch {
    // EAGAIN: it is empty; EIO: nobody holds the terminal any more
  }
}

export function sendSignal(pid: number, signal: NodeJS.Signals): void {
  try {
    process.kill(pid, signal)
  } catch {
    // it ended meanwhile
  }
}

/** Kills what is in the session that a process leads, whichever process group it moved to. */
export function killSession(leader: number): void {
  sendSignal(-leader, 'SIGKILL')
  for (const name of readdirSync('/proc')) {
    if (/^\d+$/.test(name) && sessionOf(name) === leader) sendSignal(Number(name), 'SIGKILL')
  }
}

function sessionOf(pid: string): number {
  try {
    const stat = readFileSync(`/proc/${pid}/stat`, 'latin1')
    // behind the name, which may hold anything: state, parent, group, session
    return Number(stat.slice(stat.lastIndexOf(')') + 2).split(' ')[3])
  } catch {
    return 0
  }
}
