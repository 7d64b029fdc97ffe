/** What tests and demo ask of a process: its memory, and its end. */
import type { ChildProcess } from 'node:child_process'
import { readFileSync } from 'node:fs'

/** Resident memory in bytes. */
export function rssOf(pid: number): number {
  return Number(/^VmRSS:\s+(\d+) kB/m.exec(readFileSync(`/proc/${pid}/status`, 'utf8'))?.[1]) * 1024
}

/** Sends the signal unless it has ended; resolves with its exit code. */
export async function endProcess(child: ChildProcess | undefined, signal: NodeJS.Signals): Promise<number | null> {
  if (!child || child.exitCode !== null || child.signalCode !== null) return child?.exitCode ?? null
  const ended = new Promise<number | null>(resolve => child.once('exit', code => resolve(code)))
  child.kill(signal)
  return ended
}
