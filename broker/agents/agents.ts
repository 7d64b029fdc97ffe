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
import { Newcomers } from '../http/newcomers.ts'
import { RateLimit } from '../http/rate-limit.ts'
import type { ControlSocket } from '../http/websocket.ts'
import type { Log } from '../log.ts'
import type { VmRecord } from '../store/vm-store.ts'
import type { VmBook } from '../vms/vm-book.ts'
import { judge } from './enrolment.ts'

/** messages that an agent may send in a minute; it needs a handful */
const MESSAGES_PER_MINUTE = 120
/** sockets that have not enrolled and name no VM of ours, of all addresses */
const MOST_STRANGERS = 256
/** how often one VM's agent may enrol: at once, and then per second; each time is written to disk */
const ENROLMENTS = { burst: 10, perSecond: 0.2 } as const
/** ms between two alarms about the same VM in its events */
const ALARM_MS = 60_000

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

export class Agents {
  readonly #parts: AgentsParts
  readonly #sockets = new Map<string, ControlSocket>()
  readonly #lastAlarm = new Map<string, number>()
  /** not enrolled yet: those that name a VM of ours, counted by VM, so that no other VM's sockets push them out; and the rest */
  readonly #expected = new Newcomers<ControlSocket>(socket => this.#drop(socket))
  readonly #strangers = new Newcomers<ControlSocket>(socket => this.#drop(socket), MOST_STRANGERS)
  readonly #enrolments: RateLimit
  #closed = false

  constructor(parts: AgentsParts) {
    this.#parts = parts
    this.#enrolments = new RateLimit(parts.clock, ENROLMENTS)
  }

  connected(vmId: string): boolean {
    return this.#sockets.has(vmId)
  }

  /** Asks the agent to open a data socket. Fails with vm-unreachable. */
  offer(vmId: string, offer: Omit<Extract<ToAgent, { type: 'offer' }>, 'type'>): void {
    const socket = this.#sockets.get(vmId)
    if (!socket) throw new MortarError('vm-unreachable')
    send(socket, { type: 'offer', ...offer })
  }

  disconnect(vmId: string): void {
    this.#sockets.get(vmId)?.close()
    this.#sockets.delete(vmId)
  }

  /** The VM is gone. */
  forget(vmId: string): void {
    this.disconnect(vmId)
    this.#lastAlarm.delete(vmId)
  }

  close(): void {
    this.#closed = true
    for (const socket of [...this.#sockets.values(), ...this.#expected, ...this.#strangers]) socket.close()
  }

  /** Takes a socket that some agent opened. Whatever goes wrong closes it. */
  accept(socket: ControlSocket): void {
    const { clock, book } = this.#parts
    if (socket.vm !== null && book.get(socket.vm)) this.#expected.add(socket, socket.vm)
    else this.#strangers.add(socket, socket.address)
    const nonce = randomBytes(32)
    const limit = new RateLimit(clock, { burst: MESSAGES_PER_MINUTE, perSecond: MESSAGES_PER_MINUTE / 60 })
    let vmId: string | undefined
    const cancelDeadline = clock.after(LIMITS.authenticationMs, () => {
      if (vmId === undefined) this.#drop(socket)
    })
    socket.onMessage(text => {
      // what still arrives on a socket that was given up is not looked at
      if (vmId === undefined ? !this.#isNew(socket) : this.#sockets.get(vmId) !== socket) return
      try {
        limit.count('')
        const message = readControl(toBrokerSchema, text)
        if (message.type === 'enrol') {
          if (vmId !== undefined) throw new MortarError('protocol-violation', 'enrolled twice on one socket')
          vmId = this.#enrol(socket, message, nonce)
        } else if (vmId === undefined) throw new MortarError('protocol-violation', 'not enrolled')
        else this.#report(vmId, message)
      } catch (thrown) {
        this.#fault(vmId, thrown)
        this.#drop(socket, vmId)
      }
    })
    socket.onClosed(() => {
      cancelDeadline()
      this.#drop(socket, vmId)
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

  #noLongerNew(socket: ControlSocket): void {
    this.#expected.delete(socket)
    this.#strangers.delete(socket)
  }

  /** Gives a socket up, whoever closed it. Never fails, since events of sockets have nobody to tell. */
  #drop(socket: ControlSocket, vmId?: string): void {
    this.#noLongerNew(socket)
    if (vmId !== undefined && this.#sockets.get(vmId) === socket) {
      this.#sockets.delete(vmId)
      try {
        if (!this.#closed) this.#parts.book.note(vmId, 'agent disconnected')
      } catch (thrown) {
        this.#fault(vmId, thrown)
      }
    }
    socket.close()
  }

  /** Returns the VM's id. A refusal is told by its code and closes the socket. */
  #enrol(socket: ControlSocket, message: EnrolMessage, nonce: Uint8Array): string {
    const { book, log } = this.#parts
    let judged: ReturnType<typeof judge>
    try {
      judged = judge(toSigned(message), nonce, id => book.get(id))
      if (judged.verdict === 'impostor') {
        this.#alarm(judged.record.id)
        throw new MortarError('enrolled-already', judged.record.id)
      }
      this.#enrolments.count(judged.record.id)
      if (judged.verdict === 'first') this.#record(judged.record, judged.enrolment)
      // nothing was missed while the broker was down: the boot is the one it knew
      else book.note(judged.record.id, 'agent reconnected', { rebootArmed: judged.record.state === 'booting' })
    } catch (thrown) {
      const { code } = asMortarError(thrown, 'enrolment-invalid')
      send(socket, { type: 'refused', code })
      throw thrown
    }
    const { record, enrolment, verdict } = judged
    this.#noLongerNew(socket)
    this.#sockets.get(record.id)?.close()
    this.#sockets.set(record.id, socket)
    log.info('agent.enrolled', { vm: record.id, generation: enrolment.generation, verdict })
    send(socket, {
      type: 'enrolled',
      owner: record.owner,
      ownerDh: record.ownerDh,
      generation: enrolment.generation,
    })
    const now = book.get(record.id)
    if (now) this.#parts.onEnrolled(now)
    return record.id
  }

  #record(record: VmRecord, enrolment: ReturnType<typeof judge>['enrolment']): void {
    const { book, clock } = this.#parts
    const agent = {
      generation: enrolment.generation,
      boot: enrolment.boot,
      agentDh: encodeBase64url(enrolment.agentDh),
      agentSign: encodeBase64url(enrolment.agentSign),
      addresses: enrolment.addresses,
      version: enrolment.agentVersion,
      enrolledAt: new Date(clock.now()).toISOString(),
    }
    const cause = enrolment.generation > 1 ? `agent enrolled, generation ${enrolment.generation}` : 'agent enrolled'
    // the certificate is for the keys of one boot
    const changes = { agent, certificate: null, rebootArmed: false, deadline: null }
    if (!book.transition(record.id, 'enrolled', cause, changes)) throw new MortarError('vm-state', record.state)
  }

  #report(vmId: string, message: ToBroker): void {
    if (message.type === 'ready') {
      if (this.#parts.book.get(vmId)?.state === 'enrolled') {
        this.#parts.book.transition(vmId, 'ready', 'owner proven to the agent')
      }
    } else if (message.type === 'declined') {
      this.#parts.onDeclined(vmId, message.session, isErrorCode(message.code) ? message.code : 'vm-unreachable')
    }
  }

  #fault(vmId: string | undefined, thrown: unknown): void {
    const { code, detail } = asMortarError(thrown)
    this.#parts.log.warn('agent.refused', { vm: vmId ?? null, code, detail: detail.slice(0, 200) })
  }

  /** Someone with the launch secret, but not the enrolled agent, tried to enrol: the owner sees it in the VM's events. */
  #alarm(vmId: string): void {
    const now = this.#parts.clock.now()
    if (now - (this.#lastAlarm.get(vmId) ?? 0) < ALARM_MS) return
    this.#lastAlarm.set(vmId, now)
    this.#parts.book.note(vmId, 'ALARM: a second enrolment was refused')
  }
}

type EnrolMessage = Extract<ToBroker, { type: 'enrol' }>

/** Fails with enrolment-invalid. */
function toSigned(message: EnrolMessage): SignedEnrolment {
  try {
    return {
      body: decodeBase64url(message.body),
      launchSignature: decodeBase64url(message.launchSignature),
      agentSignature: decodeBase64url(message.agentSignature),
    }
  } catch (cause) {
    throw new MortarError('enrolment-invalid', 'not base64url', { cause })
  }
}

function send(socket: ControlSocket, message: ToAgent): void {
  socket.send(JSON.stringify(message))
}
