/** The sockets that the broker serves, as their other ends: an agent's control socket, and ends of joined pairs. */
import { randomBytes, randomUUID } from 'node:crypto'
import { WebSocket } from 'ws'
import { launchSeed } from '../../protocol/channel/derive.ts'
import { nobleSuite as suite } from '../../protocol/channel/noble-suite.ts'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'
import { type Enrolment, signEnrolment, type ToAgent, toAgentSchema } from '../../protocol/control/enrolment.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import type { Launch } from './rig.ts'

/** a limit against hanging, as long as a poll waits (vitest.config.ts) */
const PATIENCE_MS = 20_000

/** Rejects when `promise` takes longer than a test should wait. */
export function soon<T>(promise: Promise<T>, what: string): Promise<T> {
  const late = new Promise<never>((_resolve, reject) => {
    setTimeout(() => reject(new Error(`${what} did not come`)), PATIENCE_MS).unref()
  })
  return Promise.race([promise, late])
}

/** Keys of one boot. */
export function newBoot(generation = 1) {
  const seed = new Uint8Array(randomBytes(32))
  return { generation, boot: randomUUID() as string, keys: suite.generateKeyPair(), seed }
}
export type Boot = ReturnType<typeof newBoot>

type Closed = { code: number; reason: string }

/** An agent's control socket. */
export class ControlEnd {
  readonly socket: WebSocket
  readonly messages: ToAgent[] = []
  readonly closed: Promise<Closed>
  #wake: (() => void)[] = []

  /** `vm`: the one it names, as an agent does that dials the address of its boot data. */
  constructor(origin: string, vm?: string) {
    this.socket = new WebSocket(`${origin.replace(/^http/, 'ws')}/v1/agent${vm === undefined ? '' : `?vm=${vm}`}`)
    this.socket.on('error', () => undefined)
    this.socket.on('message', data => {
      this.messages.push(toAgentSchema.parse(JSON.parse(data.toString())))
      for (const wake of this.#wake.splice(0)) wake()
    })
    this.closed = new Promise(resolve =>
      this.socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() })),
    )
  }

  /** The first message of the type that nobody took yet. */
  async next<T extends ToAgent['type']>(type: T): Promise<Extract<ToAgent, { type: T }>> {
    const find = async () => {
      for (;;) {
        const index = this.messages.findIndex(message => message.type === type)
        if (index >= 0) return this.messages.splice(index, 1)[0] as Extract<ToAgent, { type: T }>
        await new Promise<void>(resolve => this.#wake.push(resolve))
      }
    }
    return soon(find(), type)
  }

  send(message: object): void {
    this.socket.send(JSON.stringify(message))
  }

  /** Answers the challenge; returns the message that was sent, for replays. */
  async enrol(launch: Launch, boot: Boot, bend: { secret?: Uint8Array; enrolment?: Partial<Enrolment> } = {}) {
    const { nonce } = await this.next('challenge')
    const signed = signEnrolment(
      {
        version: 1,
        vm: launch.ticket.vm,
        launch: launch.ticket.launch,
        generation: boot.generation,
        boot: boot.boot,
        agentDh: boot.keys.publicKey,
        agentSign: signingPublicKey(boot.seed),
        addresses: ['10.0.2.15'],
        brick: launch.ticket.brick,
        agentVersion: '0.0.0',
        protocols: [1],
        ...bend.enrolment,
      },
      decodeBase64url(nonce),
      launchSeed(suite, bend.secret ?? launch.secret),
      boot.seed,
    )
    const message = {
      type: 'enrol',
      body: encodeBase64url(signed.body),
      launchSignature: encodeBase64url(signed.launchSignature),
      agentSignature: encodeBase64url(signed.agentSignature),
    }
    this.send(message)
    return message
  }
}

/** An agent that has enrolled. */
export async function enrolled(origin: string, launch: Launch, boot = newBoot()): Promise<ControlEnd> {
  const control = new ControlEnd(origin)
  await control.enrol(launch, boot)
  await control.next('enrolled')
  return control
}

/** One end of a joined pair. Resolves when the upgrade was answered; rejects with the HTTP status when it was refused. */
export async function joinPair(origin: string, token: string): Promise<JoinedEnd> {
  const socket = new WebSocket(`${origin.replace(/^http/, 'ws')}/v1/join`, [JOIN_PROTOCOL, JOIN_TOKEN_PREFIX + token], {
    perMessageDeflate: false,
  })
  const end = new JoinedEnd(socket)
  await soon(
    new Promise<void>((resolve, reject) => {
      socket.once('open', resolve)
      socket.once('unexpected-response', (_request, response) => reject(new Error(String(response.statusCode))))
      socket.once('error', reject)
    }),
    'the upgrade',
  )
  return end
}

export class JoinedEnd {
  readonly socket: WebSocket
  readonly received: Buffer[] = []
  readonly closed: Promise<Closed>
  receivedBytes = 0
  /** whether messages are kept, or only counted */
  keep = true

  constructor(socket: WebSocket) {
    this.socket = socket
    socket.on('message', data => {
      this.receivedBytes += (data as Buffer).length
      if (this.keep) this.received.push(data as Buffer)
    })
    this.closed = new Promise(resolve =>
      socket.on('close', (code, reason) => resolve({ code, reason: reason.toString() })),
    )
    socket.on('error', () => undefined)
  }
}
