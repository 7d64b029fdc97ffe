/**
 * Memory of an idle agent: it shares a small guest with its users. Until the first session nothing runs often enough to
 * be worth V8's compilers: the built program starts without them (images/build-binaries.ts), and sessions then get them.
 */
import { setFlagsFromString } from 'node:v8'
import { signSeldom } from '../../protocol/core/signing.ts'
import { clock } from './clock.ts'
import { log } from './log.ts'

/** V8's, from the quick one to the thorough one */
const COMPILERS = ['sparkplug', 'maglev', 'opt'] as const

/** To be called first. */
export function startFrugally(): void {
  signSeldom()
  collectWhenIdle()
}

/** From now on speed counts. May be repeated. */
export function allowOptimising(): void {
  for (const compiler of COMPILERS) setFlagsFromString(`--${compiler}`)
}

/** ms without a session after which the agent counts as idle */
const IDLE_MS = 8_000
const RELEASE_MS = 1_500
let cancelCollection = () => {}

/** Gives memory back once nothing has happened for a while. To be called at the start and at the end of each session. */
export function collectWhenIdle(): void {
  cancelCollection()
  cancelCollection = clock.after(IDLE_MS, () => {
    // there when the program was built with --expose-gc
    globalThis.gc?.({ type: 'major', execution: 'sync', flavor: 'last-resort' })
    // V8 gives its pages back a little later
    cancelCollection = clock.after(RELEASE_MS, () => log('agent.idle', { rssBytes: process.memoryUsage.rss() }))
  })
}
