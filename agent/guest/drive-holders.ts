/** Who has something on a drive in use, by the links that the kernel shows of each process. */
import { statSync } from 'node:fs'
import { LIMITS } from '../../protocol/core/limits.ts'
import { HOLDERS, MOUNTERS, script } from './drive-scripts.ts'
import type { Runner } from './runner.ts'

export interface Holder {
  readonly pid: number
  readonly uid: number
}

/** Processes with a file, a working directory or a mapping below a mount point. */
export async function holdersOf(runner: Runner, mountPoint: string): Promise<Holder[]> {
  return holdersIn((await runner.asRoot(script(HOLDERS, mountPoint))).stdout)
}

/** Processes that have a file system mounted which is no longer mounted for all. `device`: its numbers, as 254:0. */
export async function mountersOf(runner: Runner, device: string): Promise<Holder[]> {
  return holdersIn((await runner.asRoot(script(MOUNTERS, device))).stdout)
}

/** Of paths below /proc, one a line. */
export function holdersIn(paths: string, ownerOf: (pid: number) => number | null = ownerOfProcess): Holder[] {
  const pids = new Set([...paths.matchAll(/^\/proc\/(\d+)\//gm)].map(([, pid]) => Number(pid)))
  return [...pids]
    .flatMap(pid => {
      const uid = ownerOf(pid)
      return uid === null ? [] : [{ pid, uid }]
    })
    .slice(0, LIMITS.driveHolders)
}

/** null when it has ended meanwhile */
function ownerOfProcess(pid: number): number | null {
  return statSync(`/proc/${pid}`, { throwIfNoEntry: false })?.uid ?? null
}
