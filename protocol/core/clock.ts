/** Time as it is passed in, so that tests are exact, and deadlines that hold though a clock is set. */
import { LIMITS } from './limits.ts'

export interface Clock {
  /** ms since 1970 */
  now(): number
  /** Calls back once after `ms`; the returned function cancels. Does not keep a program alive. */
  after(ms: number, callback: () => void): () => void
}

/**
 * Calls back once when the clock says `ms` (since 1970) or later: within LIMITS.clockStepMs also when it is set forward
 * meanwhile, which no timer of a host notices, and however far away that is, though such timers count no further than 24
 * days. The returned function cancels. SPEC §2.7
 */
export function callAt(clock: Clock, ms: number, callback: () => void): () => void {
  let cancel = () => {}
  const wait = () => {
    const leftMs = Math.max(ms - clock.now(), 0)
    cancel = clock.after(Math.min(leftMs, LIMITS.clockStepMs), () => (clock.now() >= ms ? callback() : wait()))
  }
  wait()
  return () => cancel()
}
