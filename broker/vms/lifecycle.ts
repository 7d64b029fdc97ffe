/** What happens to a VM after its launch: hypervisor events, the enrolment deadline, stop and delete, a broker's restart. */
import { readdir, rm } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { DataDir } from '../data-dir.ts'
import type { DomainEvent, HypervisorDriver } from '../hypervisor/driver.ts'
import type { Log } from '../log.ts'
import type { Serialiser } from '../serialise.ts'
import type { DriveStore } from '../store/drive-store.ts'
import type { VmRecord } from '../store/vm-store.ts'
import { bootStage, readTail } from './console.ts'
import { demolish } from './launch.ts'
import { RUNNING } from './states.ts'
import type { VmBook } from './vm-book.ts'

/** ms that a guest may take to power off before it is switched off */
const SHUTDOWN_MS = 60_000
const FAILURE_TAIL_BYTES = 4096
const RECONCILE_MS = 5_000

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
}

export class Lifecycle {
  readonly #parts: LifecycleParts
  readonly #deadlines = new Map<string, () => void>()
  #closed = false

  constructor(parts: LifecycleParts) {
    this.#parts = parts
    parts.driver.onEvent(event => this.#onEvent(event))
  }

  close(): void {
    this.#closed = true
    for (const cancel of this.#deadlines.values()) cancel()
  }

  /** Sets the alarm of a booting VM: fails it with the stage reached unless it has enrolled by then. */
  watchDeadline(record: VmRecord): void {
    this.#deadlines.get(record.id)?.()
    this.#deadlines.delete(record.id)
    if (record.deadline === null || record.state !== 'booting') return
    const { clock } = this.#parts
    const cancel = clock.after(Math.max(0, record.deadline - clock.now()), () => void this.#missDeadline(record.id))
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
    const { book, driver, serialiser, clock } = this.#parts
    await serialiser.run(record.id, async () => {
      if (book.get(record.id)?.state === 'stopping') return
      if (!book.transition(record.id, 'stopping', 'stop requested')) {
        throw new MortarError('vm-state', `${record.name} is ${book.get(record.id)?.state ?? 'gone'}`)
      }
      await driver.shutdown(record.id)
    })
    clock.after(SHUTDOWN_MS, () => {
      if (book.get(record.id)?.state !== 'stopping') return
      book.note(record.id, 'did not power off in time: switching off')
      driver.destroy(record.id).catch(cause => this.#fault('vm.destroy-failed', record.id, cause))
    })
  }

  /** Removes domain, overlay and boot data; drives stay with their owner. Fails with libvirt-*. */
  delete(record: VmRecord): Promise<void> {
    const { book, serialiser, drives, disconnect } = this.#parts
    return serialiser.run(record.id, async () => {
      if (!book.get(record.id)) return
      disconnect(record.id)
      await demolish(this.#parts, record.id)
      this.#deadlines.get(record.id)?.()
      this.#deadlines.delete(record.id)
      drives.releaseAll(record.id)
      book.remove(record.id)
    })
  }

  #onEvent({ vmId, kind, detail }: DomainEvent): void {
    const { book, clock, enrolWithinMs } = this.#parts
    const record = book.get(vmId)
    if (!record) return
    if (kind === 'stopped' || kind === 'crashed') this.#domainEnded(vmId, kind, detail)
    else if (kind === 'rebooted') {
      // the agent's socket died with the old boot; the next generation may enrol once
      this.#parts.disconnect(vmId)
      const changes = { rebootArmed: true, deadline: clock.now() + enrolWithinMs }
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

  /** Brings the book in line with what the hypervisor runs, after a start; tries until libvirt answers. */
  async reconcile(): Promise<void> {
    const { book, driver, dataDir, clock, log } = this.#parts
    let domains: Awaited<ReturnType<HypervisorDriver['list']>>
    try {
      domains = await driver.list()
    } catch (cause) {
      log.warn('hypervisor.unreachable', { code: asMortarError(cause).code })
      clock.after(RECONCILE_MS, () => {
        if (!this.#closed) void this.reconcile()
      })
      return
    }
    const states = new Map(domains.map(domain => [domain.vmId, domain.state]))
    for (const record of book.list()) await this.#reconcileVm(record, states.get(record.id) ?? 'gone')
    await this.#removeStrays(dirname(dataDir.vm('any')))
  }

  async #reconcileVm(record: VmRecord, state: string): Promise<void> {
    const { book } = this.#parts
    const { id } = record
    if (record.state === 'defined') {
      // the broker ended in the middle of a launch: nobody was told that it succeeded
      await this.delete(record).catch(cause => this.#fault('vm.demolish-failed', id, cause))
    } else if (state === 'running' || state === 'paused') {
      // a launch that was cut short left it there; QEMU has read it
      await rm(join(this.#parts.dataDir.vm(id), 'mortar.secret'), { force: true })
      // a reboot may have been missed while the broker was down
      book.note(id, 'broker restarted', { rebootArmed: record.agent !== null })
      this.watchDeadline(book.get(id) ?? record)
    } else if (RUNNING.has(record.state)) this.#domainEnded(id, 'stopped', 'ended while the broker was down')
  }

  async #removeStrays(folder: string): Promise<void> {
    for (const name of await readdir(folder)) {
      if (this.#parts.book.get(name)) continue
      this.#parts.log.warn('vm.stray-removed', { vm: name })
      await rm(join(folder, name), { recursive: true, force: true })
    }
  }

  #fault(event: string, vm: string, cause: unknown): void {
    const { code, message } = asMortarError(cause)
    this.#parts.log.error(event, { vm, code, message })
  }
}
