/** A broker of a few lines and a real agent process, for tests of the agent alone: it enrols, offers, and joins in memory. */
import { type ChildProcess, spawn } from 'node:child_process'
import { randomBytes, randomUUID } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import type { AddressInfo } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { type WebSocket, WebSocketServer } from 'ws'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { AGENT_PATH, JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'
import type { Boot } from '../../protocol/control/boot.ts'
import {
  type Enrolment,
  openEnrolment,
  readControl,
  type ToBroker,
  toBrokerSchema,
} from '../../protocol/control/enrolment.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { type ClientSession, type ClientSessionOptions, openSession } from '../../protocol/session.ts'
import { endProcess, rssOf } from '../support/process.ts'
import { endRunners } from '../support/runners.ts'
import { wallClock } from '../support/session-pair.ts'
import { type Grantee, type Launch, newLaunch } from './agent-people.ts'

/** A configuration that allows everything; AgentProcess adds where homes are. */
export const EVERYTHING = `features = ${JSON.stringify(PERMISSIONS)}\n`

/** What a test bends of the broker. */
export interface Lies {
  broker?: Uint8Array
  owner?: Uint8Array
  ownerDh?: Uint8Array
  refuse?: string
}

/** Waits for things that come in an unknown order. */
class Inbox<T> {
  readonly all: T[] = []
  #waiters: (() => void)[] = []

  push(item: T): void {
    this.all.push(item)
    for (const wake of this.#waiters.splice(0)) wake()
  }

  async next(matches: (item: T) => boolean, from = 0): Promise<T> {
    for (let index = from; ; index++) {
      while (index >= this.all.length) await new Promise<void>(resolve => this.#waiters.push(resolve))
      const item = this.all[index] as T
      if (matches(item)) return item
    }
  }
}

export class StandInBroker {
  readonly launch: Launch
  readonly messages = new Inbox<ToBroker>()
  /** what agents showed: boot statement and enrolment in one */
  readonly enrolments = new Inbox<Boot & Enrolment>()
  lies: Lies = {}
  control: WebSocket | undefined
  readonly #joins = new Map<string, (socket: WebSocket) => void>()
  readonly #http: Server

  private constructor(launch: Launch, http: Server) {
    this.launch = launch
    this.#http = http
    const sockets = new WebSocketServer({ server: http, handleProtocols: () => JOIN_PROTOCOL })
    sockets.on('connection', (socket, request) => {
      if (request.url === AGENT_PATH) return this.#serveControl(socket)
      const offered = request.headers['sec-websocket-protocol']?.split(',').map(item => item.trim()) ?? []
      const token = offered.find(item => item.startsWith(JOIN_TOKEN_PREFIX))?.slice(JOIN_TOKEN_PREFIX.length) ?? ''
      const join = this.#joins.get(token)
      this.#joins.delete(token)
      if (join) join(socket)
      else socket.close(4000, 'denied')
    })
  }

  static async start(launch = newLaunch()): Promise<StandInBroker> {
    const http = createServer()
    await new Promise<void>(resolve => http.listen(0, '127.0.0.1', resolve))
    return new StandInBroker(launch, http)
  }

  get url(): string {
    return `ws://127.0.0.1:${(this.#http.address() as AddressInfo).port}${AGENT_PATH}`
  }

  #serveControl(socket: WebSocket): void {
    this.control = socket
    const { ticket } = this.launch
    const nonce = new Uint8Array(randomBytes(32))
    const send = (message: object) => socket.send(JSON.stringify(message))
    socket.on('message', data => {
      const message = readControl(toBrokerSchema, data.toString())
      if (message.type !== 'enrol') return this.messages.push(message)
      if (this.lies.refuse) return send({ type: 'refused', code: this.lies.refuse })
      const { boot, enrolment } = openEnrolment(
        {
          boot: decodeBase64url(message.boot),
          line: message.line.map(decodeBase64url),
          body: decodeBase64url(message.body),
          signature: decodeBase64url(message.signature),
        },
        nonce,
      )
      send({
        type: 'enrolled',
        owner: encodeBase64url(this.lies.owner ?? ticket.owner),
        ownerDh: encodeBase64url(this.lies.ownerDh ?? ticket.ownerDh),
        standing: 'current',
      })
      this.enrolments.push({ ...boot, ...enrolment })
    })
    send({
      type: 'challenge',
      nonce: encodeBase64url(nonce),
      broker: encodeBase64url(this.lies.broker ?? ticket.broker),
    })
  }

  /** Offers a joined pair; resolves with the agent's socket once it comes. */
  offer(
    kind: 'channel' | 'ssh',
    user: Uint8Array = this.launch.ticket.owner,
  ): { session: string; socket: Promise<WebSocket> } {
    const session = randomUUID()
    const token = encodeBase64url(new Uint8Array(randomBytes(32)))
    const socket = new Promise<WebSocket>(resolve => this.#joins.set(token, resolve))
    this.control?.send(JSON.stringify({ type: 'offer', session, token, kind, user: encodeBase64url(user) }))
    return { session, socket }
  }

  /** Breaks the last session's socket. */
  cut = () => {}

  /** A session of the owner's client, at first contact unless the agent's key is given; or of a grantee. */
  async session(agentDh?: Uint8Array, grantee?: Grantee): Promise<ClientSession> {
    return openSession((await this.#dial(agentDh, grantee)).options)
  }

  /** The same without a session over it: the test says what it likes. */
  async channel(agentDh?: Uint8Array, grantee?: Grantee): Promise<{ channel: SecureChannel; socket: WebSocket }> {
    const { joined, options } = await this.#dial(agentDh, grantee)
    return { channel: await SecureChannel.open(options), socket: joined }
  }

  async #dial(agentDh: Uint8Array | undefined, grantee: Grantee | undefined) {
    const first = await this.enrolments.next(() => true)
    // a restarted agent has other keys where there is no keyring
    const enrolment = this.enrolments.all.at(-1) ?? first
    const { ticket, ownerKeys, launchSecret } = this.launch
    const { session, socket } = this.offer('channel', grantee?.sign)
    const joined = await socket
    this.cut = () => joined.terminate()
    const options: ClientSessionOptions = {
      transport: transportOf(joined),
      suite,
      clock: wallClock,
      facts: { broker: ticket.broker, vm: ticket.vm, launch: ticket.launch, session },
      ownerKeys: grantee?.keys ?? ownerKeys,
      ...(grantee && { grant: grantee.grant }),
      agent: { dh: agentDh ?? enrolment.agentDh, sign: enrolment.agentSign },
      contact: agentDh ? { kind: 'known' } : { kind: 'first', launchSecret },
    }
    return { joined, options }
  }

  close(): void {
    this.control?.terminate()
    this.#http.closeAllConnections()
    this.#http.close()
  }
}

function transportOf(socket: WebSocket): Transport {
  const queue = new PacketQueue()
  socket.on('message', data => queue.push(data as Buffer))
  socket.on('close', () => queue.end())
  return {
    send: packet => socket.send(packet),
    receive: () => queue.take(),
    drained: () => Promise.resolve(),
    close: () => socket.close(1000),
  }
}

type LogLine = { event: string; [field: string]: unknown }

export const MAIN = new URL('../../agent/main.ts', import.meta.url).pathname

/** What a VM is given at its launch, as far as an agent under test looks at it. */
export interface BootData {
  readonly launch: { readonly signed: Uint8Array; readonly launchSecret: Uint8Array }
  /** of the broker's control socket */
  readonly url: string
}

/** A real agent process. */
export class AgentProcess {
  readonly folder: string
  readonly log = new Inbox<LogLine>()
  #child: ChildProcess | undefined

  /** `parent`: where its folders are made. */
  constructor(broker: BootData, config = EVERYTHING, parent = tmpdir()) {
    this.folder = mkdtempSync(join(parent, 'mortar-agent-test-'))
    for (const name of ['credentials', 'state', 'runtime', 'homes']) mkdirSync(join(this.folder, name))
    // the accounts that the agent makes pass through to their homes
    chmodSync(this.folder, 0o711)
    const credential = (name: string, bytes: Uint8Array | string) =>
      writeFileSync(join(this.folder, 'credentials', name), bytes)
    credential('mortar.ticket', broker.launch.signed)
    credential('mortar.secret', broker.launch.launchSecret)
    credential('mortar.broker', JSON.stringify({ url: broker.url }))
    writeFileSync(join(this.folder, 'agent.toml'), `homes = "${join(this.folder, 'homes')}"\n${config}`)
  }

  /** `program`: the sources, run by Node, or the built program. */
  start([command, ...first]: readonly [string, ...string[]] = [process.execPath, MAIN]): this {
    const child = spawn(command, [...first, 'serve', '--config', join(this.folder, 'agent.toml')], {
      env: {
        PATH: process.env.PATH,
        NODE_OPTIONS: '--max-semi-space-size=1',
        CREDENTIALS_DIRECTORY: join(this.folder, 'credentials'),
        STATE_DIRECTORY: join(this.folder, 'state'),
        RUNTIME_DIRECTORY: join(this.folder, 'runtime'),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    // what goes to the console, and what goes to the journal alone
    for (const stream of [child.stdout, child.stderr]) {
      let rest = ''
      stream.on('data', (chunk: Buffer) => {
        const lines = (rest + chunk.toString()).split('\n')
        rest = lines.pop() ?? ''
        for (const line of lines) this.log.push(line.startsWith('{') ? JSON.parse(line) : { event: 'text', line })
      })
    }
    return this
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  get rssBytes(): number {
    return rssOf(this.pid)
  }

  saw(event: string, from = 0): Promise<LogLine> {
    return this.log.next(line => line.event === event, from)
  }

  /** Ends the process; resolves with its exit code. */
  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    return endProcess(this.#child, signal)
  }

  async remove(): Promise<void> {
    await this.stop('SIGKILL')
    await endRunners(join(this.folder, 'runtime'))
    rmSync(this.folder, { recursive: true, force: true })
  }
}
