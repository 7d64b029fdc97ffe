/** What becomes of a VM when a boot enrols, protests, is over or is chosen by the owner: a row of a table for each claim. SPEC §3.2 */
import { decodeBase64url } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { BootRecord, VmRecord } from '../store/vm-store.ts'
import type { VmBook } from '../vms/vm-book.ts'
import {
  asCurrent,
  asWaiting,
  type Claim,
  isContested,
  type Judged,
  promoted,
  protested,
  successorOf,
} from './enrolment.ts'

export interface StandingsParts {
  readonly book: VmBook
  readonly clock: Clock
  /** whether the agent of that Ed25519 key holds its control socket */
  connected(vmId: string, agentSign: string): boolean
  /** Shows a boot that runs the statement of one that says it came after. */
  challenge(vmId: string, agentSign: string, successor: BootRecord): void
  /** Gives up the socket of a boot that is over. */
  drop(vmId: string, agentSign: string): void
}

/** stands: it is current from now on; alarm: somebody has a copy of a key */
const ROWS: Readonly<Record<Claim, { readonly standing: 'current' | 'waiting'; readonly cause: string }>> = {
  first: { standing: 'current', cause: 'agent enrolled' },
  again: { standing: 'current', cause: 'agent reconnected' },
  follows: { standing: 'current', cause: 'agent enrolled' },
  successor: { standing: 'waiting', cause: 'a later boot enrolled while this one is connected' },
  ancestor: { standing: 'waiting', cause: 'an earlier boot is connected again' },
  rival: { standing: 'waiting', cause: 'ALARM: a second boot proves a one-use key; the owner has to decide' },
  unproven: { standing: 'waiting', cause: 'a boot that proves nothing waits for the owner' },
}
const STOLEN = 'ALARM: a boot that runs disowns the one after it; the owner has to decide'

export class Standings {
  readonly #parts: StandingsParts

  constructor(parts: StandingsParts) {
    this.#parts = parts
  }

  /** Takes an enrolment into the VM's record. Fails with vm-state or limit-exceeded. */
  take(record: VmRecord, judged: Judged): 'current' | 'waiting' {
    const { book } = this.#parts
    const { claim, facts } = judged
    const { standing, cause } = ROWS[claim]
    if (claim === 'again') book.note(record.id, cause)
    else if (standing === 'current') {
      const told = facts.generation > 1 ? `${cause}, generation ${facts.generation}` : cause
      this.#enter(record, told, asCurrent(record, judged))
    } else {
      const changes = asWaiting(record, judged, agentSign => this.#parts.connected(record.id, agentSign))
      // a boot that runs is not disturbed by one that proves nothing, and one alarm is enough
      const alarming = claim === 'rival' && !isContested(record)
      if (alarming || (claim === 'unproven' && !this.#live(record))) this.#enter(record, cause, changes)
      else book.note(record.id, cause.replace(/^ALARM: /, ''), changes)
    }
    return standing
  }

  /** Once the agent's socket is kept: asks the boot that may know better whether it runs. */
  follow(vmId: string, { claim, boot }: Judged): void {
    const { book, clock, challenge } = this.#parts
    const record = book.get(vmId)
    const current = record?.agent?.agentSign
    if (!record || current === undefined) return
    const asked = claim === 'successor' ? current : boot.agentSign
    if (claim !== 'successor' && claim !== 'ancestor' && claim !== 'again') return
    const successor = successorOf(record, asked)
    if (!successor) return
    challenge(vmId, asked, successor)
    if (claim === 'successor') clock.after(LIMITS.protestMs, () => this.#outwait(vmId, asked, boot.agentSign))
  }

  /** Fails with protocol-violation when it proves nothing. */
  protest(vmId: string, agentSign: string, signature: string): void {
    const record = this.#parts.book.get(vmId)
    const changes = record && protested(record, agentSign, decodeBase64url(signature))
    if (!record || !changes) throw new MortarError('protocol-violation', 'a protest against nothing')
    if (isContested(record)) this.#parts.book.note(vmId, 'a boot that runs disowns another', changes)
    else this.#enter(record, STOLEN, changes)
  }

  /** The current agent's socket has ended: a boot that waited for that follows it. */
  over(vmId: string): void {
    const record = this.#parts.book.get(vmId)
    const next = record?.waiting.find(boot => boot.claim === 'successor' && this.#parts.connected(vmId, boot.agentSign))
    const changes = record && next && promoted(record, next.agentSign)
    if (record && changes) this.#enter(record, `agent enrolled, generation ${next.generation}`, changes)
  }

  /** The owner has proven an identity to an agent. Of a boot that waits nothing follows from it. */
  ready(vmId: string, agentSign: string): void {
    const record = this.#parts.book.get(vmId)
    if (record?.agent?.agentSign !== agentSign || record.state !== 'enrolled' || isContested(record)) return
    this.#parts.book.transition(vmId, 'ready', 'owner proven to the agent')
  }

  #live(record: VmRecord): boolean {
    return record.agent !== null && this.#parts.connected(record.id, record.agent.agentSign)
  }

  /** A boot that was asked and is silent is over, though its socket does not know yet. */
  #outwait(vmId: string, silent: string, successor: string): void {
    const record = this.#parts.book.get(vmId)
    if (record?.agent?.agentSign !== silent || !promoted(record, successor)) return
    this.#parts.drop(vmId, silent)
  }

  #enter(record: VmRecord, cause: string, changes: Partial<VmRecord>): void {
    if (!this.#parts.book.transition(record.id, 'enrolled', cause, changes)) {
      throw new MortarError('vm-state', record.state)
    }
  }
}
