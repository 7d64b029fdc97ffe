/**
 * The control socket: dials the broker, shows this boot's statement, compares the owner that the broker names with the
 * ticket's, then takes offers of sessions. Dials again for as long as the agent runs. SPEC §3
 */
import { randomInt } from 'node:crypto'
import type { Suite } from '../../protocol/channel/suite.ts'
import { openBoot } from '../../protocol/control/boot.ts'
import {
  readControl,
  signEnrolment,
  type ToAgent,
  type ToBroker,
  toAgentSchema,
} from '../../protocol/control/enrolment.ts'
import { decodeBase64url, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { type ErrorCode, isErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { BootData } from '../boot/boot-data.ts'
import type { BootKeys } from '../boot/boot-keys.ts'
import type { BootState } from '../boot/boot-state.ts'
import { addresses } from '../guest/addresses.ts'
import { clock, sleep } from '../process/clock.ts'
import { failure, type Log } from '../process/log.ts'
import { VERSION } from '../process/version.ts'
import { type ControlSocket, dialControl } from './websocket.ts'

/** ms between dials: the first, the longest, and after a broker that refuses or lies */
const BACK_OFF = { firstMs: 200, mostMs: 10_000, refusedMs: 30_000 } as const
/** what dialling again soon will not mend */
const SLOW: readonly ErrorCode[] = ['owner-mismatch', 'broker-mismatch', 'enrolment-invalid', 'denied']

export type Offer = Extract<ToAgent, { type: 'offer' }>

export interface ConnectOptions {
  readonly bootData: BootData
  readonly keys: BootKeys
  readonly boot: BootState
  readonly suite: Suite
  readonly log: Log
  /** ends the agent */
  readonly signal: AbortSignal
  /** Takes an offer. Resolves with the code to decline it with, or null once it is taken. `onProven`: the owner is proven. */
  takeOffer(offer: Offer, onProven: () => void): Promise<ErrorCode | null>
}

/** Keeps the control socket until the signal aborts. */
export async function keepConnected(options: ConnectOptions): Promise<void> {
  const { log, signal } = options
  let delayMs: number = BACK_OFF.firstMs
  let statement = options.boot.statement
  while (!signal.aborted) {
    const control = new Control(options, statement)
    const error = await control.run()
    if (signal.aborted) return
    if (control.enrolled) delayMs = BACK_OFF.firstMs
    const refused = SLOW.includes(error.code)
    log(refused ? 'enrolment.refused' : 'control.lost', failure(error))
    const other = error.code === 'enrolment-invalid' ? otherStatement(options.boot, statement) : statement
    // a broker that does not know this boot's key may yet show it to the owner
    const slow = refused && other !== options.boot.claim
    statement = other
    // jitter, so that a broker that restarts is not dialled by all its VMs at once
    await sleep((slow ? BACK_OFF.refusedMs : delayMs) * (randomInt(500, 1_000) / 1_000), signal)
    delayMs = Math.min(delayMs * 2, BACK_OFF.mostMs)
  }
}

/** The two statements of this boot in turn: what the boot before left proves more, and the launch key is always known. */
const otherStatement = ({ statement, claim }: BootState, shown: Uint8Array) => (shown === claim ? statement : claim)

/** One control socket from dial to end. */
class Control {
  readonly #options: ConnectOptions
  readonly #statement: Uint8Array
  readonly #ended = Promise.withResolvers<MortarError>()
  #socket: ControlSocket | undefined
  #state: 'challenge' | 'enrolling' | 'enrolled' = 'challenge'
  #readySent = false
  #lastHeardMs = clock.now()

  constructor(options: ConnectOptions, statement: Uint8Array) {
    this.#options = options
    this.#statement = statement
  }

  get enrolled(): boolean {
    return this.#state === 'enrolled'
  }

  /** Resolves with what ended the socket. */
  async run(): Promise<MortarError> {
    const { bootData, signal } = this.#options
    this.#socket = dialControl(bootData.brokerUrl, {
      onMessage: json => this.#receive(json),
      onAlive: () => {
        this.#lastHeardMs = clock.now()
      },
      onClosed: error => this.#ended.resolve(error),
    })
    const abort = () => this.#end(new MortarError('going-away'))
    signal.addEventListener('abort', abort, { once: true })
    const watch = setInterval(() => this.#watch(), 1_000)
    try {
      return await this.#ended.promise
    } finally {
      clearInterval(watch)
      signal.removeEventListener('abort', abort)
    }
  }

  #end(error: MortarError): void {
    this.#ended.resolve(error)
    this.#socket?.terminate()
  }

  /** The broker pings; one that falls silent, or does not get on with the enrolment, is given up. */
  #watch(): void {
    const limitMs = this.enrolled ? LIMITS.silenceMs : LIMITS.authenticationMs
    if (clock.now() - this.#lastHeardMs > limitMs) this.#end(new MortarError('timeout', 'the broker is silent'))
  }

  #receive(json: string): void {
    try {
      const message = readControl(toAgentSchema, json)
      if (message.type === 'challenge' && this.#state === 'challenge') this.#enrol(message)
      else if (message.type === 'enrolled' && this.#state === 'enrolling') this.#confirm(message)
      else if (message.type === 'offer' && this.#state === 'enrolled') void this.#take(message)
      else if (message.type === 'succeeded' && this.#state === 'enrolled') this.#protest(message)
      else if (message.type === 'refused')
        throw new MortarError(isErrorCode(message.code) ? message.code : 'denied', 'the broker refused the enrolment')
      else throw new MortarError('protocol-violation', `${message.type} in state ${this.#state}`)
    } catch (thrown) {
      this.#end(thrown instanceof MortarError ? thrown : new MortarError('internal', String(thrown), { cause: thrown }))
    }
  }

  #enrol(challenge: Extract<ToAgent, { type: 'challenge' }>): void {
    const { bootData, boot, keys } = this.#options
    const { ticket } = bootData
    if (!equalBytes(decodeBase64url(challenge.broker), ticket.broker)) {
      throw new MortarError('broker-mismatch', 'the launch ticket is for another one')
    }
    const enrolment = {
      version: 1 as const,
      addresses: addresses(),
      brick: ticket.brick,
      agentVersion: VERSION,
      protocols: [1],
    }
    // by the launch key it stands alone
    const line = this.#statement === boot.claim ? [] : boot.line
    const shown = { boot: this.#statement, line }
    const signed = signEnrolment(enrolment, shown, decodeBase64url(challenge.nonce), keys.signSeed)
    this.#send({
      type: 'enrol',
      vm: ticket.vm,
      boot: encodeBase64url(signed.boot),
      line: signed.line.map(encodeBase64url),
      body: encodeBase64url(signed.body),
      signature: encodeBase64url(signed.signature),
    })
    this.#state = 'enrolling'
  }

  /** The broker says who owns this VM; the ticket knows. An agent never serves another. */
  #confirm(answer: Extract<ToAgent, { type: 'enrolled' }>): void {
    const { ticket } = this.#options.bootData
    const same =
      equalBytes(decodeBase64url(answer.owner), ticket.owner) &&
      equalBytes(decodeBase64url(answer.ownerDh), ticket.ownerDh)
    if (!same) throw new MortarError('owner-mismatch', ticket.vm)
    this.#state = 'enrolled'
    if (answer.standing === 'current') this.#options.boot.answered()
    void this.#logEnrolled(answer.standing)
  }

  /** With the words of this boot, which its owner compares when two claim to be the VM; the word list is loaded for it only. */
  async #logEnrolled(standing: 'current' | 'waiting'): Promise<void> {
    const { bootData, boot, keys, suite, log } = this.#options
    const { bootWords } = await import('../../protocol/channel/comparison.ts')
    const words = bootWords(suite, { agentDh: keys.dh.publicKey, agentSign: keys.signPublicKey })
    log('enrolled', { vm: bootData.ticket.vm, generation: boot.generation, standing, words })
  }

  /** Somebody else used the key that this boot keeps for the next: the owner has to know, and it is replaced. */
  #protest({ boot: text }: Extract<ToAgent, { type: 'succeeded' }>): void {
    const { boot, keys, log } = this.#options
    const successor = decodeBase64url(text)
    const signature = boot.protest(successor, keys.signSeed)
    log('boot.disowned', { boot: openBoot(successor).boot })
    this.#send({ type: 'protest', signature: encodeBase64url(signature) })
  }

  async #take(offer: Offer): Promise<void> {
    const code = await this.#options.takeOffer(offer, () => this.#reportReady())
    if (code) this.#send({ type: 'declined', session: offer.session, code })
  }

  #reportReady(): void {
    if (this.#readySent) return
    this.#readySent = true
    this.#send({ type: 'ready' })
  }

  #send(message: ToBroker): void {
    this.#socket?.send(JSON.stringify(message))
  }
}
