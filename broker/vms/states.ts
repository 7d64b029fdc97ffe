/** The states of a VM and which may follow which. What is not in the table is refused and logged. */
import type { VmState } from '../../protocol/control/api.ts'

const NEXT: Readonly<Record<VmState, readonly VmState[]>> = {
  defined: ['booting', 'failed', 'destroyed'],
  booting: ['enrolled', 'booting', 'stopping', 'stopped', 'failed', 'destroyed'],
  enrolled: ['ready', 'booting', 'enrolled', 'stopping', 'stopped', 'failed', 'destroyed'],
  ready: ['booting', 'enrolled', 'stopping', 'stopped', 'failed', 'destroyed'],
  stopping: ['stopped', 'failed', 'destroyed'],
  stopped: ['destroyed'],
  // a VM that was given up may still enrol, slowly
  failed: ['enrolled', 'booting', 'stopping', 'stopped', 'destroyed'],
  destroyed: [],
}

export function mayFollow(from: VmState, to: VmState): boolean {
  return NEXT[from].includes(to)
}

/** States in which the domain runs, as far as the broker knows. */
export const RUNNING: ReadonlySet<VmState> = new Set<VmState>(['booting', 'enrolled', 'ready', 'stopping'])
