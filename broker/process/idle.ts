/** Gives memory back once the broker has had nothing to do for a while: what an import or a burst of sessions left behind. */
import type { Clock } from '../../protocol/core/clock.ts'

const IDLE_MS = 5_000

/** Returns what is to be called whenever something happens. */
export function collectWhenIdle(clock: Clock): () => void {
  let cancel = () => {}
  return () => {
    cancel()
    // there when the program was built with --expose-gc
    cancel = clock.after(IDLE_MS, () => globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' }))
  }
}
