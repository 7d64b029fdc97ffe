/** The agents' control sockets: challenge, enrolment, then offers of sessions out and reports in. SPEC §3.2 */
import { randomBytes } from 'node:crypto'
import {
  readControl,
  type SignedEnrolment,
  type ToAgent,
  type ToBroker,
  toBrokerSchema,
} from '../../protocol/control/enrolment.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, type ErrorCode, isErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { RateLimit } from '../http/rate-limit.ts'
import type { ControlSocket } from '../http/websocket.ts'
import type { Log } from '../process/log.ts'
import { addressGroup } from '../shares/address-group.ts'
import { Shares } from '../shares/shares.ts'
import type { VmRecord } from '../store/vm-store.ts'
import type { VmBook } from '../vms/vm-book.ts'
import { type Claim, isContested, type Judged, judge } from './enrolment.ts'
import { HeldSockets } from './held-sockets.ts'
import { Standings } from './standings.ts'

/** messages that an agent may send in a minute; it needs a handful */
const MESSAGES_PER_MINUTE = 120
/** sockets that have not enrolled, of one VM or address and in all: those that name a VM of ours, and those that name none */
const EXPECTED = { each: LIMITS.unauthenticatedPerAddress, most: 512 } as const
const STRANGERS = { each: LIMITS.unauthenticatedPerAddress, most: 256 } as const
/** how often one agent, or agents that are new, may enrol at a VM: at once, and then per second; each time is written to disk */
const ENROLMENTS = { burst: 10, perSecond: 0.2 } as const
/** how often refusals of one address are logged, whichever VM it names: at once, and then per second */
const REFUSALS = { burst: 10, perSecond: 0.1 } as const

export interface AgentsParts {
  readonly book: VmBook
  readonly clock: Clock
  readonly log: Log
  /** the broker's Ed25519 key */
  readonly brokerId: Uint8Array
  /** the VM has enrolled: its deadline is met */
  onEnrolled(record: VmRecord): void
  /** the agent turned an offer down */
  onDeclined(vmId: string, session: string, code: ErrorCode): void
}

/** An agent that has enrolled: its VM, and its Ed25519 key as base64url. */
interface Enrolled {
  readonly vmId: string
  readonly agentSign: string
}

export class Agents {
  readonly #parts: AgentsParts
  readonly #held = new HeldSockets()
  readonly #standings: Standings
  /** not enrolled yet: those that name a VM of ours, counted by VM, so that no other VM's sockets push them out; and the rest */
  readonly #expected = new Shares<ControlSocket>(socket => socket.cut(), EXPECTED)
  readonly #strangers = new Shares<ControlSocket>(socket => socket.cut(), STRANGERS)
  readonly #enrolments: RateLimit
  readonly #refusals: RateLimit
  #closed = false

  constructor(parts: AgentsParts) {
    this.#parts = parts
    this.#enrolments = new RateLimit(parts.clock, ENROLMENTS)
    this.#refusals = new RateLimit(parts.clock, REFUSALS)
    this.#standings = new Standings({
      book: parts.book,
      clock: parts.clock,
      connected: (vmId, agentSign) => this.connected(vmId, agentSign),
      challenge: (vmId, agentSign, { statement }) =>
        this.#tell(vmId, agentSign, { type: 'succeeded', boot: statement }),
      drop: (vmId, agentSign) => {
        const held = this.#held.get(vmId, agentSign)
        if (held) this.#drop(held.socket, { vmId, agentSign })
      },
    })
  }

  connected(vmId: string, agentSign: string): boolean {
    return this.#held.get(vmId, agentSign) !== undefined
  }

  /**
   * The agent that a session goes to: the current one, or the boot that the owner names. Fails with vm-unreachable, and with
   * boot-contested or boot-unproven where the owner has to decide first.
   */
  target(vmId: string, named: string | undefined): string {
    const record = this.#parts.book.get(vmId)
    if (record && named === undefined && isContested(record)) throw new MortarError('boot-contested', record.name)
    const agentSign = named ?? record?.agent?.agentSign
    if (agentSign !== undefined && this.connected(vmId, agentSign)) return agentSign
    const waits = named === undefined && record?.waiting.some(boot => this.connected(vmId, boot.agentSign))
    throw new MortarError(waits ? 'boot-unproven' : 'vm-unreachable', record?.name ?? vmId)
  }

  /** Asks the agent to open a data socket. Fails with vm-unreachable. */
  offer(vmId: string, agentSign: string, offer: Omit<Extract<ToAgent, { type: 'offer' }>, 'type'>): void {
    if (!this.#tell(vmId, agentSign, { type: 'offer', ...offer })) throw new MortarError('vm-unreachable')
  }

  /** Closes the sockets of boots that the VM's record does not know any more: the owner has decided, or a proven boot came. */
  settle(vmId: string): void {
    const record = this.#parts.book.get(vmId)
    if (!record?.agent) return
    const { agentSign } = record.agent
    this.#held.closeOthers(vmId, [agentSign, ...record.waiting.map(boot => boot.agentSign)])
    if (this.#held.get(vmId, agentSign)?.ready) this.#standings.ready(vmId, agentSign)
  }

  disconnect(vmId: string): void {
    this.#held.closeOthers(vmId)
  }

  /** The VM is gone. */
  forget(vmId: string): void {
    this.disconnect(vmId)
  }

  close(): void {
    this.#closed = true
    for (const socket of [...this.#held, ...this.#expected, ...this.#strangers]) socket.close()
  }

  /** Takes a socket that some agent opened. Whatever goes wrong closes it. */
  accept(socket: ControlSocket): void {
    const { clock, book } = this.#parts
    if (socket.vm !== null && book.get(socket.vm)) this.#expected.add(socket, socket.vm)
    else this.#strangers.add(socket, addressGroup(socket.address))
    const nonce = randomBytes(32)
    const limit = new RateLimit(clock, { burst: MESSAGES_PER_MINUTE, perSecond: MESSAGES_PER_MINUTE / 60 })
    let enrolled: Enrolled | undefined
    const cancelDeadline = clock.after(LIMITS.authenticationMs, () => {
      if (enrolled === undefined) this.#drop(socket)
    })
    socket.onMessage(text => {
      // what still arrives on a socket that was given up is not looked at
      if (enrolled === undefined ? !this.#isNew(socket) : !this.#isHeld(socket, enrolled)) return
      try {
        limit.count('')
        const message = readControl(toBrokerSchema, text)
        if (message.type === 'enrol') {
          if (enrolled !== undefined) throw new MortarError('protocol-violation', 'enrolled twice on one socket')
          enrolled = this.#enrol(socket, message, nonce)
        } else if (enrolled === undefined) throw new MortarError('protocol-violation', 'not enrolled')
        else this.#report(enrolled, message)
      } catch (thrown) {
        this.#fault(socket, enrolled, thrown)
        this.#drop(socket, enrolled)
      }
    })
    socket.onClosed(() => {
      cancelDeadline()
      this.#drop(socket, enrolled)
    })
    send(socket, {
      type: 'challenge',
      nonce: encodeBase64url(nonce),
      broker: encodeBase64url(this.#parts.brokerId),
    })
  }

  #isNew(socket: ControlSocket): boolean {
    return this.#expected.has(socket) || this.#strangers.has(socket)
  }

  #isHeld(socket: ControlSocket, { vmId, agentSign }: Enrolled): boolean {
    return this.#held.get(vmId, agentSign)?.socket === socket
  }

  #noLongerNew(socket: ControlSocket): void {
    this.#expected.delete(socket)
    this.#strangers.delete(socket)
  }

  /** Gives a socket up, whoever closed it. Never fails, since events of sockets have nobody to tell. */
  #drop(socket: ControlSocket, enrolled?: Enrolled): void {
    this.#noLongerNew(socket)
    if (enrolled && this.#held.delete(enrolled.vmId, enrolled.agentSign, socket) && !this.#closed) {
      try {
        this.#left(enrolled)
      } catch (thrown) {
        this.#fault(socket, enrolled, thrown)
      }
    }
    socket.close()
  }

  #left({ vmId, agentSign }: Enrolled): void {
    const current = this.#parts.book.get(vmId)?.agent?.agentSign === agentSign
    this.#parts.book.note(vmId, current ? 'agent disconnected' : 'a boot that waits disconnected')
    if (!current) return
    this.#standings.over(vmId)
    this.settle(vmId)
  }

  /** A refusal is told by its code and closes the socket. */
  #enrol(socket: ControlSocket, message: EnrolMessage, nonce: Uint8Array): Enrolled {
    const { book, log, clock } = this.#parts
    try {
      const record = book.get(message.vm)
      if (!record) throw new MortarError('enrolment-invalid', `no VM ${message.vm}`)
      // whoever holds another VM's key is still not at that VM's address
      if (socket.proven && record.id !== socket.vm) throw new MortarError('enrolment-invalid', 'of another VM')
      const { id } = record
      const live = record.agent !== null && this.connected(id, record.agent.agentSign)
      const judged = judge(record, toSigned(message), { nonce, live, now: clock.now() })
      const { agentSign } = judged.boot
      this.#enrolments.count(`${id} ${shareOf(judged)}`)
      const standing = this.#standings.take(record, judged)
      this.#noLongerNew(socket)
      this.#held.put(id, agentSign, socket)?.close()
      this.settle(id)
      log.info('agent.enrolled', { vm: id, generation: judged.facts.generation, claim: judged.claim })
      send(socket, { type: 'enrolled', owner: record.owner, ownerDh: record.ownerDh, standing })
      const now = book.get(id)
      if (now) this.#parts.onEnrolled(now)
      this.#standings.follow(id, judged)
      return { vmId: id, agentSign }
    } catch (thrown) {
      const { code } = asMortarError(thrown, 'enrolment-invalid')
      send(socket, { type: 'refused', code })
      throw thrown
    }
  }

  #report({ vmId, agentSign }: Enrolled, message: ToBroker): void {
    if (message.type === 'ready') {
      const held = this.#held.get(vmId, agentSign)
      if (held) held.ready = true
      this.#standings.ready(vmId, agentSign)
    } else if (message.type === 'protest') this.#standings.protest(vmId, agentSign, message.signature)
    else if (message.type === 'declined') {
      this.#parts.onDeclined(vmId, message.session, isErrorCode(message.code) ? message.code : 'vm-unreachable')
    }
  }

  #tell(vmId: string, agentSign: string, message: ToAgent): boolean {
    const held = this.#held.get(vmId, agentSign)
    if (held) send(held.socket, message)
    return held !== undefined
  }

  /** What strangers send in a flood is not worth a line each. */
  #fault(socket: ControlSocket, enrolled: Enrolled | undefined, thrown: unknown): void {
    const { code, detail } = asMortarError(thrown)
    try {
      if (!enrolled && code !== 'internal') this.#refusals.count(addressGroup(socket.address))
    } catch {
      return
    }
    this.#parts.log.warn('agent.refused', { vm: enrolled?.vmId ?? null, code, detail: detail.slice(0, 200) })
  }
}

/** Those that only a proven agent may use are an agent's own; what proves less shares one, so that it costs those nothing. */
const SHARES: Readonly<Record<Claim, 'own' | 'next' | 'waiting'>> = {
  first: 'next',
  again: 'own',
  follows: 'next',
  successor: 'next',
  ancestor: 'own',
  rival: 'waiting',
  unproven: 'waiting',
}

const shareOf = ({ claim, boot }: Judged) => (SHARES[claim] === 'own' ? boot.agentSign : SHARES[claim])

type EnrolMessage = Extract<ToBroker, { type: 'enrol' }>

/** Fails with enrolment-invalid. */
function toSigned(message: EnrolMessage): SignedEnrolment {
  try {
    return {
      boot: decodeBase64url(message.boot),
      line: message.line.map(decodeBase64url),
      body: decodeBase64url(message.body),
      signature: decodeBase64url(message.signature),
    }
  } catch (cause) {
    throw new MortarError('enrolment-invalid', 'not base64url', { cause })
  }
}

function send(socket: ControlSocket, message: ToAgent): void {
  socket.send(JSON.stringify(message))
}
