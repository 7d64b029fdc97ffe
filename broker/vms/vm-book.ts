/** The book of VMs: the one place where a VM's record changes. Each change is stored, numbered, and told to who waits. */
import type { Vm, VmState } from '../../protocol/control/api.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import type { Log } from '../process/log.ts'
import type { DriveStore } from '../store/drive-store.ts'
import type { GrantStore } from '../store/grant-store.ts'
import type { VmRecord, VmStore } from '../store/vm-store.ts'
import { mayFollow } from './states.ts'
import { Waits } from './waits.ts'

const MOST_EVENTS = 200

export interface VmBookOptions {
  readonly store: VmStore
  readonly drives: DriveStore
  readonly grants: GrantStore
  readonly clock: Clock
  readonly log: Log
  /** whether the agent of that Ed25519 key, base64url, holds its control socket now */
  connected(vmId: string, agentSign: string): boolean
}

export class VmBook {
  readonly #options: VmBookOptions
  readonly #waits: Waits

  constructor(options: VmBookOptions) {
    this.#options = options
    this.#waits = new Waits(options.clock)
  }

  get(id: string): VmRecord | undefined {
    return this.#options.store.get(id)
  }

  list(owner?: string): VmRecord[] {
    return this.#options.store.list(owner)
  }

  countOf(owner: string): number {
    return this.#options.store.countOf(owner)
  }

  /** Slots that VMs have, with their ids. */
  slots(): Map<number, string> {
    return this.#options.store.slots()
  }

  /** By id, or by the owner's name for it. */
  find(owner: string, nameOrId: string): VmRecord | undefined {
    return this.#options.store.findByName(owner, nameOrId) ?? this.#options.store.get(nameOrId)
  }

  /** Adds a VM and spends its launch. Fails with ticket-replayed or vm-exists. */
  add(record: VmRecord, ticketExpires: number): void {
    this.#options.store.insert(record, ticketExpires)
    this.#options.log.info('vm.state', { vm: record.id, state: record.state })
  }

  /** Forgets the VM; who waits for it learns that it is gone. */
  remove(id: string): void {
    this.#options.store.remove(id)
    this.#options.grants.removeAll(id)
    this.#options.log.info('vm.state', { vm: id, state: 'destroyed' })
    this.#waits.wake(id)
  }

  /** Changes state, with the other members that change with it. False when the state may not follow, or the VM is gone. */
  transition(id: string, to: VmState, cause: string, changes: Partial<VmRecord> = {}): boolean {
    const record = this.#options.store.get(id)
    if (!record) return false
    if (!mayFollow(record.state, to)) {
      this.#options.log.warn('vm.transition-refused', { vm: id, from: record.state, to, cause })
      return false
    }
    const failure = to === 'failed' ? (changes.failure ?? record.failure) : null
    this.#save({ ...record, ...changes, failure, state: to }, cause)
    this.#options.log.info('vm.state', { vm: id, state: to, cause })
    return true
  }

  /** Notes something that does not change the state: the agent came or went, a drive, an alarm. */
  note(id: string, cause: string, changes: Partial<VmRecord> = {}): void {
    const record = this.#options.store.get(id)
    if (record) this.#save({ ...record, ...changes }, cause)
  }

  #save(record: VmRecord, cause: string): void {
    const event = {
      at: new Date(this.#options.clock.now()).toISOString(),
      state: record.state,
      cause: printable(cause),
    }
    const events = bounded([...record.events, event])
    this.#options.store.save({ ...record, events, revision: record.revision + 1 })
    this.#waits.wake(record.id)
  }

  /** Resolves when the VM has another revision than `revision`, is gone, `timeoutMs` has passed, or the user waits too often. */
  changed(id: string, revision: number, { user, timeoutMs }: { user: string; timeoutMs: number }): Promise<void> {
    const record = this.#options.store.get(id)
    return record?.revision === revision ? this.#waits.wait(id, user, timeoutMs) : Promise.resolve()
  }

  /** The VM as the API shows it. `grants`: those that the reader may see. */
  view(record: VmRecord, grants: string[]): Vm {
    const { ownerDh: _ownerDh, commitment: _commitment, deadline: _deadline, ...more } = record
    const { slot: _slot, network: _network, ...shown } = more
    const connected = ({ agentSign }: { agentSign: string }) => this.#options.connected(record.id, agentSign)
    return {
      ...shown,
      agent: record.agent && { ...record.agent, connected: connected(record.agent) },
      boots: record.boots.map(({ statement }) => statement),
      waiting: record.waiting.map(boot => {
        const { statement, addresses, version, enrolledAt, protest } = boot
        const line = boot.line.map(before => before.statement)
        return { statement, line, addresses, version, enrolledAt, protest, connected: connected(boot) }
      }),
      drives: this.#options.drives.attachedTo(record.id).map(drive => drive.id),
      grants,
    }
  }
}

/** At most MOST_EVENTS. Alarms go last, so that nobody can push them out of sight with events of another kind. */
function bounded(events: VmRecord['events']): VmRecord['events'] {
  if (events.length <= MOST_EVENTS) return events
  const oldest = events.findIndex(event => !event.cause.startsWith('ALARM'))
  return events.toSpliced(Math.max(0, oldest), 1)
}

/** Causes may quote a guest or libvirt. */
function printable(cause: string): string {
  return cause.replace(/\p{Cc}/gu, ' ').slice(0, 200)
}
