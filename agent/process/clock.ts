/** A steady clock and timers of the host, as protocol/ takes them. */
import type { Clock } from '../../protocol/core/clock.ts'

/** Does not jump when the guest's clock is set: a jump would look like a silent peer. The wall clock is Date.now(). */
export const clock: Clock = {
  now: () => performance.timeOrigin + performance.now(),
  after(ms, callback) {
    const timer = setTimeout(callback, ms)
    timer.unref()
    return () => clearTimeout(timer)
  },
}

/** For what must end in time: the later of the wall clock and the steady one, so that setting the guest's clock back prolongs nothing. */
export const deadlineClock: Clock = { now: () => Math.max(Date.now(), clock.now()), after: clock.after }

/** Resolves after `ms`, or at once when the signal aborts. Keeps the program alive meanwhile. */
export function sleep(ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    if (signal?.aborted) return resolve()
    const done = () => {
      clearTimeout(timer)
      signal?.removeEventListener('abort', done)
      resolve()
    }
    const timer = setTimeout(done, ms)
    signal?.addEventListener('abort', done, { once: true })
  })
}
