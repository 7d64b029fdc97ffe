/** The sockets that the broker serves, as their other ends: an agent's control socket, and ends of joined pairs. */
import { randomBytes, randomUUID } from 'node:crypto'
import { WebSocket } from 'ws'
import { launchSeed } from '../../protocol/channel/derive.ts'
import { nobleSuite as suite } from '../../protocol/channel/noble-suite.ts'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'
import { type BootStatement, signBoot } from '../../protocol/control/boot.ts'
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
  const nextSeed = new Uint8Array(randomBytes(32))
  return { generation, boot: randomUUID() as string, keys: suite.generateKeyPair(), seed, nextSeed }
}
export type Boot = ReturnType<typeof newBoot>

/** How an enrolment differs from the first of a launch. */
export interface EnrolBend {
  readonly secret?: Uint8Array
  /** the boot before, whose next-boot key proves this one */
  readonly by?: Boot
  /** statements of boots before that nobody answered */
  readonly line?: readonly Uint8Array[]
  readonly enrolment?: Partial<Enrolment>
  readonly statement?: Partial<BootStatement>
}

/** The boot's statement, signed by the launch key, or by the key that the boot before left. */
export function signedBoot(launch: Launch, boot: Boot, { secret, by, statement }: EnrolBend = {}): Uint8Array {
  const stated = {
    version: 1 as const,
    vm: launch.ticket.vm,
    launch: launch.ticket.launch,
    generation: boot.generation,
    boot: boot.boot,
    agentDh: boot.keys.publicKey,
    agentSign: signingPublicKey(boot.seed),
    nextBoot: signingPublicKey(boot.nextSeed),
    ...statement,
  }
  return signBoot(stated, by?.nextSeed ?? launchSeed(suite, secret ?? launch.secret))
}

type Closed = { code: number; reason: string }

/** An agent's control socket. */
export class ControlEnd {
  readonly socket: WebSocket
  readonly messages: ToAgent[] = []
  readonly closed: Promise<Closed>
  #wake: (() => void)[] = []

  /** `vm`: the one it names, as an agent does that dials the address of its boot data; `localAddress`: where it comes from. */
  constructor(origin: string, vm?: string, localAddress?: string) {
    const url = `${origin.replace(/^http/, 'ws')}/v1/agent${vm === undefined ? '' : `?vm=${vm}`}`
    this.socket = new WebSocket(url, localAddress === undefined ? {} : { localAddress })
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

  /** Answers the challenge; `by`: the boot before, whose key proves this one. Returns the message that was sent, for replays. */
  async enrol(launch: Launch, boot: Boot, bend: EnrolBend = {}) {
    const { nonce } = await this.next('challenge')
    const signed = signEnrolment(
      {
        version: 1,
        addresses: ['10.0.2.15'],
        brick: launch.ticket.brick,
        agentVersion: '0.0.0',
        protocols: [1],
        ...bend.enrolment,
      },
      { boot: signedBoot(launch, boot, bend), line: bend.line ?? [] },
      decodeBase64url(nonce),
      boot.seed,
    )
    const message = {
      type: 'enrol',
      vm: bend.statement?.vm ?? launch.ticket.vm,
      boot: encodeBase64url(signed.boot),
      line: signed.line.map(encodeBase64url),
      body: encodeBase64url(signed.body),
      signature: encodeBase64url(signed.signature),
    }
    this.send(message)
    return message
  }
}

/** An agent that has enrolled. */
export async function enrolled(
  origin: string,
  launch: Launch,
  boot = newBoot(),
  bend: EnrolBend = {},
): Promise<ControlEnd> {
  const control = new ControlEnd(origin)
  await control.enrol(launch, boot, bend)
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
