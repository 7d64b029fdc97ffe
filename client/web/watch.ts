/**
 * Keeps the lists fresh. Browsers open six connections to a broker at most, so there is one long poll: of the VM that is
 * looked at or on its way. Whatever it says or however long it is silent, the lists are read again after it.
 */
import type { Vm } from '../../protocol/control/api.ts'
import { asMortarError } from '../../protocol/core/errors.ts'
import type { BrokerApi } from '../broker/api.ts'
import { route } from './route.ts'
import { connectAwaited } from './sessions.ts'
import { type Login, report, set } from './state.ts'

/** the oldest that the lists get, for VMs that nobody waits for */
const POLL_MS = 5_000
const RETRY_MS = 2_000
const MOVING: readonly Vm['state'][] = ['defined', 'booting', 'enrolled', 'stopping']

let round = new AbortController()

/** Reads the lists again at once: something was done. */
export function refresh(): void {
  round.abort()
}

/** Watches until the returned function is called. */
export function startWatching(login: Login): () => void {
  const stop = new AbortController()
  watch(login, stop.signal).catch(report)
  addEventListener('hashchange', refresh, { signal: stop.signal })
  return () => {
    stop.abort()
    round.abort()
  }
}

async function watch({ broker }: Login, stop: AbortSignal): Promise<void> {
  while (!stop.aborted) {
    round = new AbortController()
    const { signal } = round
    try {
      const [vms, drives, bricks] = await Promise.all([broker.vms(), broker.drives(), broker.bricks()])
      if (stop.aborted) return
      set({ vms, drives, bricks, trouble: null })
      connectAwaited(vms)
      const looked = vms.find(vm => vm.id === route().vm) ?? vms.find(vm => MOVING.includes(vm.state)) ?? vms[0]
      if (looked) await changeOf(broker, looked, signal)
      else await pause(POLL_MS, signal)
    } catch (thrown) {
      if (stop.aborted) return
      if (signal.aborted) continue
      set({ trouble: asMortarError(thrown) })
      await pause(RETRY_MS, signal)
    }
  }
}

async function changeOf(broker: BrokerApi, vm: Vm, signal: AbortSignal): Promise<void> {
  try {
    await broker.vmChange(vm.id, vm.revision, POLL_MS, signal)
  } catch (thrown) {
    // it was deleted meanwhile: the next list says so
    if (signal.aborted || asMortarError(thrown).code !== 'not-found') throw thrown
  }
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise(resolve => {
    const timer = setTimeout(resolve, ms)
    signal.addEventListener('abort', () => {
      clearTimeout(timer)
      resolve()
    })
    if (signal.aborted) resolve()
  })
}
