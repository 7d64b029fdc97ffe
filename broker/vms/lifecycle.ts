/** What happens to a VM after its launch: hypervisor events, the enrolment deadline, stop and delete, a broker's restart. */
import { readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { DataDir } from '../data-dir.ts'
import type { DomainEvent, HypervisorDriver } from '../hypervisor/driver.ts'
import type { Log, LogEvent } from '../process/log.ts'
import type { Serialiser } from '../process/serialise.ts'
import type { DriveStore } from '../store/drive-store.ts'
import type { VmRecord } from '../store/vm-store.ts'
import { bootStage, readTail } from './console.ts'
import { demolish, removeSecret } from './launch.ts'
import { mayFollow, RUNNING } from './states.ts'
import type { VmBook } from './vm-book.ts'

/** ms that a guest may take to power off before it is switched off */
const SHUTDOWN_MS = 60_000
const FAILURE_TAIL_BYTES = 4096
const RECONCILE_MS = 5_000
/** ms that a VM has at least to enrol after the broker was started again */
const RESUME_MS = 60_000

export interface LifecycleParts {
  readonly book: VmBook
  readonly driver: HypervisorDriver
  readonly drives: DriveStore
  readonly dataDir: DataDir
  readonly clock: Clock
  readonly log: Log
  readonly serialiser: Serialiser
  readonly enrolWithinMs: number
  /** closes the VM's agent socket and joined pairs */
  disconnect(vmId: string): void
  /** the VM is gone for good */
  forget(vmId: string): void
}

export class Lifecycle {
  readonly #parts: LifecycleParts
  readonly #deadlines = new Map<string, () => void>()
  #closed = false

  constructor(parts: LifecycleParts) {
    this.#parts = parts
    parts.driver.onEvent(event => {
      if (this.#closed) return
      try {
        this.#onEvent(event)
      } catch (cause) {
        this.#fault('vm.event-lost', event.vmId, cause)
        this.#later(RECONCILE_MS, () => this.#compare([event.vmId]))
      }
    })
  }

  close(): void {
    this.#closed = true
    for (const cancel of this.#deadlines.values()) cancel()
  }

  /** Runs a job after `ms` unless the broker is closed then; whatever it fails with ends in the log. */
  #later(ms: number, job: () => Promise<void>): () => void {
    return this.#parts.clock.after(ms, () => {
      if (!this.#closed) job().catch(cause => this.#fault('lifecycle.failed', '', cause))
    })
  }

  /** Sets the alarm of a booting VM: fails it with the stage reached unless it has enrolled by then. */
  watchDeadline(record: VmRecord): void {
    this.#deadlines.get(record.id)?.()
    this.#deadlines.delete(record.id)
    if (record.deadline === null || record.state !== 'booting') return
    const { clock } = this.#parts
    const cancel = this.#later(Math.max(0, record.deadline - clock.now()), () => this.#missDeadline(record.id))
    this.#deadlines.set(record.id, cancel)
  }

  async #missDeadline(id: string): Promise<void> {
    this.#deadlines.delete(id)
    const consoleTail = await readTail(join(this.#parts.dataDir.vm(id), 'console.log'), FAILURE_TAIL_BYTES)
    if (this.#parts.book.get(id)?.state !== 'booting') return
    const seconds = Math.round(this.#parts.enrolWithinMs / 1000)
    const failure = {
      stage: bootStage(consoleTail),
      reason: `vm-silent: did not enrol within ${seconds} s`,
      consoleTail,
    }
    this.#parts.book.transition(id, 'failed', failure.reason, { failure, deadline: null })
  }

  /** Asks the guest to power off; switches it off when it does not. Returns at once. Fails with vm-state. */
  async stop(record: VmRecord): Promise<void> {
    const { book, driver, serialiser } = this.#parts
    await serialiser.run(record.id, async () => {
      const state = book.get(record.id)?.state ?? 'destroyed'
      if (state === 'stopping') return
      if (!mayFollow(state, 'stopping')) throw new MortarError('vm-state', `${record.name} is ${state}`)
      // asked first: a hypervisor that cannot be reached leaves the VM as it is
      await driver.shutdown(record.id)
      // a fast guest is off already
      if (mayFollow(book.get(record.id)?.state ?? 'destroyed', 'stopping')) {
        book.transition(record.id, 'stopping', 'stop requested')
      }
      this.#later(SHUTDOWN_MS, () => this.#switchOff(record.id))
    })
  }

  /** Ends a stop that the guest did not obey; tries until libvirt answers. */
  async #switchOff(id: string): Promise<void> {
    const { book, driver, serialiser } = this.#parts
    await serialiser.run(id, async () => {
      if (book.get(id)?.state !== 'stopping') return
      book.note(id, 'did not power off in time: switching off')
      try {
        await driver.destroy(id)
      } catch (cause) {
        if (asMortarError(cause).code !== 'not-found') {
          this.#fault('vm.destroy-failed', id, cause)
          this.#later(RECONCILE_MS, () => this.#switchOff(id))
          return
        }
      }
      // one that did not run in the first place has no event to tell
      if (book.get(id)?.state === 'stopping') this.#domainEnded(id, 'stopped', 'switched off')
    })
  }

  /** Removes domain, overlay and boot data; drives stay with their owner. Fails with libvirt-*. */
  delete(record: VmRecord): Promise<void> {
    return this.#parts.serialiser.run(record.id, () => this.#delete(record.id))
  }

  async #delete(id: string): Promise<void> {
    const { book, drives, dataDir, disconnect, forget } = this.#parts
    if (!book.get(id)) return
    disconnect(id)
    await removeSecret(dataDir, id)
    await demolish(this.#parts, id)
    this.#deadlines.get(id)?.()
    this.#deadlines.delete(id)
    drives.releaseAll(id)
    book.remove(id)
    forget(id)
  }

  #onEvent({ vmId, kind, detail }: DomainEvent): void {
    const { book, clock, enrolWithinMs } = this.#parts
    const record = book.get(vmId)
    if (!record) return
    if (kind === 'stopped' || kind === 'crashed') this.#domainEnded(vmId, kind, detail)
    else if (kind === 'rebooted') {
      // the agent's socket died with the old boot
      this.#parts.disconnect(vmId)
      // a guest that reboots over and over does not get more time by it
      const running = record.state === 'booting' ? record.deadline : null
      const changes = { deadline: running ?? clock.now() + enrolWithinMs }
      book.transition(vmId, 'booting', 'guest rebooted', changes)
      this.watchDeadline(book.get(vmId) ?? record)
    }
  }

  #domainEnded(vmId: string, kind: 'stopped' | 'crashed', detail: string): void {
    const { book, drives, disconnect } = this.#parts
    if (book.get(vmId)?.state === 'defined') return
    disconnect(vmId)
    // drives are plugged into the running domain only
    drives.releaseAll(vmId)
    if (kind === 'stopped') book.transition(vmId, 'stopped', `domain ${detail}`, { deadline: null })
    else {
      const failure = { stage: 'running', reason: `the domain ${detail || 'crashed'}`, consoleTail: '' }
      book.transition(vmId, 'failed', failure.reason, { failure, deadline: null })
    }
  }

  /**
   * After a start, before anybody can call: takes up the VMs of before. Deadlines run on; then, in the background, the book is brought in line with what the hypervisor runs.
   */
  resume(): void {
    const { book, clock, enrolWithinMs } = this.#parts
    const records = book.list()
    // nobody could enrol while the broker was down
    const earliest = clock.now() + Math.min(enrolWithinMs, RESUME_MS)
    for (const { id, state, deadline } of records) {
      const changes = { deadline: deadline && Math.max(deadline, earliest) }
      if (state !== 'stopped') book.note(id, 'broker restarted', changes)
      const record = book.get(id)
      if (record) this.watchDeadline(record)
      if (state === 'stopping') this.#later(SHUTDOWN_MS, () => this.#switchOff(id))
    }
    this.#later(0, async () => {
      await this.#compare(records.map(({ id }) => id))
      await this.#removeStrays(dirname(this.#parts.dataDir.vm('any')))
    })
  }

  /** Compares VMs with the hypervisor's domains; tries until libvirt answers. Newer VMs are not looked at: a launch may be under way. */
  async #compare(ids: readonly string[]): Promise<void> {
    const { serialiser } = this.#parts
    const failed: string[] = []
    let running = new Set<string>()
    try {
      running = await this.#runningDomains()
    } catch (cause) {
      this.#fault('hypervisor.unreachable', '', cause)
      failed.push(...ids)
    }
    for (const id of failed.length > 0 ? [] : ids) {
      try {
        // asked again within the VM's turn: a job before this one may have started or ended it
        await serialiser.run(id, async () =>
          this.#compareVm(id, running.has(id) || (await this.#runningDomains()).has(id)),
        )
      } catch (cause) {
        this.#fault('vm.compare-failed', id, cause)
        failed.push(id)
      }
    }
    if (failed.length > 0) this.#later(RECONCILE_MS, () => this.#compare(failed))
  }

  async #runningDomains(): Promise<Set<string>> {
    const domains = await this.#parts.driver.list()
    return new Set(domains.filter(({ state }) => state === 'running' || state === 'paused').map(({ vmId }) => vmId))
  }

  async #compareVm(id: string, running: boolean): Promise<void> {
    const { book, dataDir } = this.#parts
    const record = book.get(id)
    if (!record || this.#closed) return
    // a launch that was cut short left it there
    await removeSecret(dataDir, id)
    if (record.state === 'defined') {
      // the broker ended in the middle of the launch: nobody was told that it succeeded
      await this.#delete(id)
    } else if (RUNNING.has(record.state) && !running) {
      this.#domainEnded(id, 'stopped', 'ended while the broker was down')
    }
  }

  async #removeStrays(folder: string): Promise<void> {
    for (const name of await readdir(folder)) {
      if (this.#parts.book.get(name)) continue
      this.#parts.log.warn('vm.stray-removed', { vm: name })
      await rm(join(folder, name), { recursive: true, force: true })
    }
  }

  #fault(event: LogEvent, vm: string, cause: unknown): void {
    const { code, message } = asMortarError(cause)
    this.#parts.log.error(event, { vm, code, message })
  }
}
