/** Looks after a network while the broker runs: what is found broken is mended, and told in the log. */
import { asMortarError } from '../../protocol/core/errors.ts'
import type { Log } from '../process/log.ts'

const LOOK_MS = 5_000

/** Calls `mend` again and again; it returns what it mended, if anything. Returns what ends the watch. */
export function watchNetwork(log: Log, mend: () => Promise<string | undefined>): () => Promise<void> {
  let looking: Promise<void> = Promise.resolve()
  let failed = ''
  const look = async () => {
    try {
      const mended = await mend()
      if (mended) log.warn('network.mended', { fault: mended })
      failed = ''
    } catch (cause) {
      const { code, message } = asMortarError(cause)
      // once for each fault, not every few seconds
      if (message !== failed) log.error('network.failed', { code, message })
      failed = message
    }
  }
  const timer = setInterval(() => {
    looking = looking.then(look)
  }, LOOK_MS)
  timer.unref()
  return () => {
    clearInterval(timer)
    return looking
  }
}
