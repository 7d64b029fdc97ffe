/** Starting runners as their users, and ending them: by PID 1 where systemd is, by the agent itself elsewhere. */

import { join } from 'node:path'
import { isSea } from 'node:sea'
import type { Place } from './place.ts'

export interface Launcher {
  /** Has the runner of a place started, unless it runs. Resolves with the path of its socket. Fails with internal. */
  start(place: Place): Promise<string>
  /** Whether a runner that an earlier agent had started still runs there. */
  runs(place: Place): boolean
  /** Ends a runner that hangs or lies, with all that is in its group. */
  kill(place: Place): Promise<void>
  /** Ends everything of a person. Resolves when the kernel says that nothing is left; fails with timeout. */
  endPerson(person: string): Promise<void>
}

/** argv of this program in the role of a runner. */
export function runnerArgv(): string[] {
  if (isSea()) return [process.execPath, 'runner']
  return [process.execPath, '--disable-sigusr1', join(import.meta.dirname, '../main.ts'), 'runner']
}
