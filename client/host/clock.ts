/** The clock of the host, browser or Node, as protocol/core/clock.ts wants it. */
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'

export const wallClock: Clock = {
  now: () => Date.now(),
  after(ms, callback) {
    const timer: unknown = setTimeout(callback, ms)
    // Node's timers keep a program alive unless told otherwise; a browser's are plain numbers
    if (typeof timer === 'object' && timer !== null && 'unref' in timer) (timer as { unref(): void }).unref()
    return () => clearTimeout(timer as number)
  },
}

/** What `work` yields, if it does in time. Fails with timeout, naming `what`; the work itself goes on. */
export async function within<T>(clock: Clock, ms: number, what: string, work: Promise<T>): Promise<T> {
  let cancel = () => {}
  const late = new Promise<never>((_, reject) => {
    cancel = clock.after(ms, () => reject(new MortarError('timeout', `${what}: not done after ${ms / 1000} s`)))
  })
  try {
    return await Promise.race([work, late])
  } finally {
    cancel()
  }
}

/** Waits, or until the signal aborts; unlike Clock.after it keeps a program alive. */
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
