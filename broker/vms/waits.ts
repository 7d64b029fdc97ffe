/** Requests that wait for a VM to change. Who has too many has the oldest of them answered at once, with the VM as it is. SPEC §3.3 */
import type { Clock } from '../../protocol/core/clock.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Shares } from '../shares/shares.ts'

interface Wait {
  readonly vmId: string
  end(): void
}

export class Waits {
  readonly #clock: Clock
  readonly #ofVm = new Map<string, Set<Wait>>()
  readonly #shares = new Shares<Wait>(wait => wait.end(), { each: LIMITS.waitsPerUser, most: LIMITS.waits })

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Resolves when the VM is woken, after `timeoutMs`, or when this user or all of them wait for too much. */
  wait(vmId: string, user: string, timeoutMs: number): Promise<void> {
    return new Promise(resolve => {
      const waits = this.#ofVm.get(vmId) ?? new Set()
      this.#ofVm.set(vmId, waits)
      const wait: Wait = {
        vmId,
        end: () => {
          cancel()
          this.#shares.delete(wait)
          waits.delete(wait)
          if (waits.size === 0) this.#ofVm.delete(vmId)
          resolve()
        },
      }
      const cancel = this.#clock.after(timeoutMs, wait.end)
      waits.add(wait)
      this.#shares.add(wait, user)
    })
  }

  wake(vmId: string): void {
    for (const wait of [...(this.#ofVm.get(vmId) ?? [])]) wait.end()
  }
}
