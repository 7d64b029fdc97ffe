/** The clock of the host, browser or Node, as protocol/core/clock.ts wants it. */
import type { Clock } from '../protocol/core/clock.ts'

export const wallClock: Clock = {
  now: () => Date.now(),
  after(ms, callback) {
    const timer: unknown = setTimeout(callback, ms)
    // Node's timers keep a program alive unless told otherwise; a browser's are plain numbers
    if (typeof timer === 'object' && timer !== null && 'unref' in timer) (timer as { unref(): void }).unref()
    return () => clearTimeout(timer as number)
  },
}

/** Waits; unlike Clock.after it keeps a program alive. */
export function sleep(ms: number): Promise<void> {
  return new Promise(resolve => setTimeout(resolve, ms))
}
