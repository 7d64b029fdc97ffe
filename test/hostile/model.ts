/**
 * A real client and agent in memory, beside a model of what each of their streams has been given. At any time: nothing
 * lost, repeated, reordered; one end; memory within the window. SPEC §7
 */
import type { Call, ClientCall, FromAgent, FromClient } from '../../protocol/call.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { sessionPair } from '../support/session-pair.ts'

export type Side = 'client' | 'agent'
type Exec = typeof exec
const sides = ['client', 'agent'] as const
const other = (side: Side): Side => (side === 'client' ? 'agent' : 'client')
export const turns = async (count: number) => {
  for (let i = 0; i < count; i++) await new Promise(resolve => setImmediate(resolve))
}

function check(condition: boolean, what: string): asserts condition {
  if (!condition) throw new Error(what)
}

/** for each stream and side, what it says from its first byte on, made as far as it was asked for */
const said = new Map<number, Uint8Array>()

/** Bytes `from` to `to` of what a side says in a stream: any loss, repeat or swap shows. */
function bytesOf(stream: number, side: Side, from: number, to: number): Uint8Array {
  const mark = (stream * 2 + (side === 'client' ? 0 : 1)) & 0xff
  let held = said.get(mark) ?? new Uint8Array(0)
  if (held.length < to) {
    held = Uint8Array.from(
      { length: Math.max(to, 2 * held.length, 65_536) },
      (_, place) => (Math.imul(place + 1, 2_654_435_761) >>> 24) ^ mark,
    )
    said.set(mark, held)
  }
  return held.subarray(from, to)
}

/** One direction of a stream: what was said, what the window took, what was read. */
class Flow {
  given = 0
  taken = 0
  read = 0
  signals = 0
  signalsRead = 0
  endedByWriter = false
  /** how the reader saw the end, once it did */
  end: 'end' | string | undefined
  reading = false
}

export class StreamModel {
  readonly id: number
  readonly flows: Record<Side, Flow> = { client: new Flow(), agent: new Flow() }
  client: ClientCall<Exec> | undefined
  agent: Call<Exec> | undefined
  leave: ((error?: MortarError) => void) | undefined
  readers: Record<Side, AsyncGenerator<FromAgent<Exec> | FromClient<Exec>, void, undefined> | undefined> = {
    client: undefined,
    agent: undefined,
  }
  /** either side reset it, or the session is over */
  broken = false

  constructor(id: number) {
    this.id = id
  }
}

export class Real {
  readonly streams: StreamModel[] = []
  session!: ClientSession
  served!: Promise<MortarError | undefined>
  closedBy: 'go-away' | 'drop' | undefined
  #drop: () => void = () => undefined

  static async start(): Promise<Real> {
    const real = new Real()
    const pair = await sessionPair({
      suites: { client: nativeSuite, agent: nativeSuite },
      through: (client, agent) => {
        // closing either end is how a lost socket looks to both
        real.#drop = () => client.close()
        return [client, agent]
      },
      handlers: { exec: call => real.#serve(call) },
    })
    real.session = pair.session
    real.served = pair.served
    return real
  }

  async #serve(call: Call<Exec>): Promise<void> {
    const stream = this.streams[Number(call.params.argv[0])]
    if (!stream) throw new MortarError('internal')
    stream.agent = call
    call.accept({})
    await new Promise<void>((resolve, reject) => {
      stream.leave = error => (error ? reject(error) : resolve())
      call.signal.addEventListener('abort', () => resolve(), { once: true })
    })
  }

  async open(): Promise<void> {
    const stream = new StreamModel(this.streams.length)
    this.streams.push(stream)
    stream.client = await this.session.open(exec, { argv: [String(stream.id)] })
  }

  write(stream: StreamModel, side: Side, size: number): void {
    const flow = stream.flows[side]
    const bytes = bytesOf(stream.id, side, flow.given, flow.given + size).slice()
    flow.given += size
    const written = (stream[side] as Call<Exec>).write(bytes)
    written.then(
      () => {
        flow.taken += size
      },
      () => {
        if (!stream.broken && !this.closedBy) this.problems.push(`stream ${stream.id}: a write failed for no reason`)
      },
    )
  }

  /** Takes up to `count` items at one side; leaves one read under way when nothing is there. */
  async read(stream: StreamModel, side: Side, count: number): Promise<void> {
    const flow = stream.flows[other(side)]
    stream.readers[side] ??= (stream[side] as Call<Exec>).received()
    const items = stream.readers[side]
    for (let i = 0; i < count && !flow.reading && flow.end === undefined; i++) {
      flow.reading = true
      void items.next().then(
        ({ value: item, done }) => {
          flow.reading = false
          if (done) this.#end(stream, flow, 'end')
          else if (item.type === 'data') this.#checkBytes(stream, other(side), item.bytes)
          else if (item.name === 'signal') flow.signalsRead++
        },
        thrown => {
          flow.reading = false
          this.#end(stream, flow, asMortarError(thrown).code)
        },
      )
      await turns(2)
    }
  }

  #end(stream: StreamModel, flow: Flow, how: string): void {
    if (flow.end !== undefined) this.problems.push(`stream ${stream.id} ended twice: ${flow.end}, ${how}`)
    flow.end = how
    if (how === 'end' && flow.read !== flow.given) this.problems.push(`stream ${stream.id} ended early`)
    if (how === 'end' && flow.signalsRead !== flow.signals) this.problems.push(`stream ${stream.id} lost a message`)
  }

  readonly problems: string[] = []

  #checkBytes(stream: StreamModel, writer: Side, bytes: Uint8Array): void {
    const flow = stream.flows[writer]
    const expected = bytesOf(stream.id, writer, flow.read, flow.read + bytes.length)
    if (Buffer.compare(bytes, expected) !== 0) {
      const wrong = bytes.findIndex((byte, i) => byte !== expected[i])
      this.problems.push(`stream ${stream.id}: byte ${flow.read + wrong} of the ${writer} is not the one that was sent`)
    } else flow.read += bytes.length
    if (flow.end !== undefined) this.problems.push(`stream ${stream.id}: data after its end`)
  }

  goAway(): void {
    this.closedBy ??= 'go-away'
    this.session.close()
  }

  drop(): void {
    this.closedBy ??= 'drop'
    this.#drop()
  }

  /** What must be true at any time. */
  checkNow(): void {
    check(this.problems.length === 0, this.problems.join('; '))
    for (const { id, flows } of this.streams) {
      for (const side of sides) {
        const { given, taken, read } = flows[side]
        check(read <= given, `stream ${id}: more was read than sent`)
        check(
          // a window doubles at most each time that half of it was read
          taken - read <= Math.min(LIMITS.mostWindowBytes, LIMITS.windowBytes + 2 * read),
          `stream ${id}: ${taken - read} bytes are unread, more than the window`,
        )
      }
    }
  }

  /** Reads everything to its end and ends the session: what must be true at last. */
  async finish(): Promise<void> {
    if (!this.closedBy) {
      for (const stream of this.streams) {
        if (stream.broken) continue
        // a writer half-closes once its writes are taken; the handler leaves once it has read everything
        await this.#readUntil(stream, 'agent', flow => flow.taken === flow.given)
        if (!stream.flows.client.endedByWriter) stream.client?.end()
        await this.#readUntil(stream, 'agent', flow => flow.end !== undefined)
        await this.#readUntil(stream, 'client', flow => flow.taken === flow.given)
        stream.leave?.()
        await this.#readUntil(stream, 'client', flow => flow.end !== undefined)
        for (const who of sides) {
          const { end } = stream.flows[who]
          check(end === 'end', `stream ${stream.id}: what the ${who} said has no end: ${end}`)
        }
      }
      this.goAway()
    }
    const [client, agent] = await Promise.all([this.session.closed, this.served])
    const orderly = this.closedBy === 'go-away'
    check(
      client === undefined || (!orderly && client.code === 'connection-lost'),
      `the client ended with ${client?.code}`,
    )
    check(agent === undefined || (!orderly && agent.code === 'connection-lost'), `the agent ended with ${agent?.code}`)
    check(orderly || client !== undefined, 'the client took a lost socket for an end')
    this.checkNow()
  }

  async #readUntil(stream: StreamModel, side: Side, reached: (flow: Flow) => boolean): Promise<void> {
    const flow = stream.flows[other(side)]
    for (let idle = 0; !reached(flow) && idle < 200; ) {
      const before = flow.read
      await this.read(stream, side, 8)
      if (flow.reading) await turns(2)
      idle = flow.read === before ? idle + 1 : 0
    }
  }
}
