/** Control groups (cgroup v2) that hold everything of a person, and the kernel's way to end all of it at once. */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'
import { sleep } from '../process/clock.ts'

const POLL_MS = 20
/** a process that the kernel cannot end waits for a disk */
const END_MS = 30_000

/** Where cgroup v2 is mounted, or null. */
export function controlGroups(): string | null {
  const line = readFileSync('/proc/self/mounts', 'utf8')
    .split('\n')
    .find(mount => mount.split(' ')[2] === 'cgroup2')
  return line?.split(' ')[1] ?? null
}

/** Whether any process is in the group or below it. */
export function isPopulated(group: string): boolean {
  try {
    return readFileSync(join(group, 'cgroup.events'), 'utf8').includes('populated 1')
  } catch (thrown) {
    // there is no such group
    if (['ENOENT', 'ENODEV'].includes((thrown as NodeJS.ErrnoException).code ?? '')) return false
    throw thrown
  }
}

/**
 * Kills every process in the group and below it, those too that are just being forked. Resolves when the kernel says that
 * none is left; fails with timeout when some stay.
 */
export async function killGroup(group: string): Promise<void> {
  const giveUp = performance.now() + END_MS
  while (isPopulated(group)) {
    if (performance.now() > giveUp) throw new MortarError('timeout', 'programs that do not end')
    if (existsSync(group)) write(join(group, 'cgroup.kill'), '1')
    await sleep(POLL_MS)
  }
}

function write(path: string, text: string): void {
  try {
    writeFileSync(path, text)
  } catch (thrown) {
    if (!['ENOENT', 'ENODEV'].includes((thrown as NodeJS.ErrnoException).code ?? '')) throw thrown
  }
}
