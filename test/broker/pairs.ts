/** A VM whose agent has enrolled, and joined pairs with it: by WebSockets, or by a bare socket at the client's end. */
import { randomBytes } from 'node:crypto'
import { connect, type Socket } from 'node:net'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'
import { maskedFrame } from '../support/websocket-frames.ts'
import { type Launch, type PersonName, Rig } from './rig.ts'
import { type ControlEnd, enrolled, type JoinedEnd, joinPair, soon } from './sockets.ts'

export interface Pair {
  readonly client: JoinedEnd
  readonly agent: JoinedEnd
}

/** A data frame as a client sends it. */
export function frame(payload: Uint8Array, opcode = 2): Buffer {
  return maskedFrame(Buffer.from(payload), { opcode, fin: true, mask: 0x01020304 })
}

/** The request by which an end joins. */
export function upgradeOf(token: string): string {
  return (
    `GET /v1/join HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n` +
    `Sec-WebSocket-Key: ${randomBytes(16).toString('base64')}\r\n` +
    `Sec-WebSocket-Protocol: ${JOIN_PROTOCOL}, ${JOIN_TOKEN_PREFIX}${token}\r\n\r\n`
  )
}

export class PairRig {
  readonly rig: Rig
  readonly launch: Launch
  agent: ControlEnd

  private constructor(rig: Rig, launch: Launch, agent: ControlEnd) {
    this.rig = rig
    this.launch = launch
    this.agent = agent
  }

  static async start(): Promise<PairRig> {
    const rig = await Rig.start()
    const launch = await rig.launch('joined')
    return new PairRig(rig, launch, await enrolled(rig.broker.agents, launch))
  }

  get vmId(): string {
    return this.launch.ticket.vm
  }

  /** The two tokens of a new pair. */
  async tokens(
    id = this.vmId,
    control = this.agent,
    who: PersonName = 'owner',
  ): Promise<{ client: string; agent: string }> {
    const { token } = await this.rig.api(who).createSession(id, 'channel')
    return { client: token, agent: (await control.next('offer')).token }
  }

  async newPair(id?: string, control?: ControlEnd, who?: PersonName): Promise<Pair> {
    const pair = await this.tokens(id, control, who)
    const { origin } = this.rig.broker
    const [client, agent] = await Promise.all([joinPair(origin, pair.client), joinPair(origin, pair.agent)])
    return { client, agent }
  }

  /** The client's end is a bare socket, which can do what no WebSocket library would. */
  async pairWithRawClient(): Promise<{ client: Socket; agent: JoinedEnd }> {
    const pair = await this.tokens()
    const client = this.connect()
    const answered = new Promise<void>(resolve => client.once('data', () => resolve()))
    client.write(upgradeOf(pair.client))
    await soon(answered, 'the upgrade')
    return { client, agent: await joinPair(this.rig.broker.origin, pair.agent) }
  }

  connect(): Socket {
    const { hostname, port } = new URL(this.rig.broker.origin)
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined)
    return socket
  }
}
