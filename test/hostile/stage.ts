/**
 * The stage of every attack: a real client session and a real agent session in memory, a relay between them that may do
 * with packets what it likes, a conversation whose bytes are counted, and a clock that the relay moves.
 */
import type { Suite } from '../../protocol/channel/suite.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { type facts, type PairOptions, sessionPair } from '../support/session-pair.ts'
import { StillClock } from '../support/still-clock.ts'
import { brokenSuite, type Random, seededSuite } from './random.ts'

export type End = 'client' | 'agent'
export const otherEnd = (end: End): End => (end === 'client' ? 'agent' : 'client')

const CHUNKS = 5
const STEP_MS = 5_000
/** turns of the event loop in which nothing moves before the clock does */
const QUIET_TURNS = 6
const LONGEST_PLAY_MS = 120_000

/** The relay's two ends; what they send waits here until the attack carries it. */
export class Relay {
  readonly waiting: Record<End, Uint8Array[]> = { client: [], agent: [] }
  /** packets that each end has sent so far */
  readonly sent: Record<End, number> = { client: 0, agent: 0 }
  readonly #queues: Record<End, PacketQueue> = { client: new PacketQueue(), agent: new PacketQueue() }
  closed = false

  end(end: End): Transport {
    return {
      send: packet => {
        if (this.closed) return
        this.sent[end]++
        this.waiting[end].push(packet.slice())
      },
      receive: () => this.#queues[end].take(),
      drained: () => Promise.resolve(),
      close: () => {
        this.closed = true
      },
    }
  }

  deliver(to: End, packet: Uint8Array): void {
    this.#queues[to].push(packet.slice())
  }

  /** Tells both ends that the socket is gone. */
  cut(): void {
    this.closed = true
    for (const queue of Object.values(this.#queues)) queue.end()
  }
}

/** What an attack does with the packets. `carry` says what is delivered, and where, in place of a packet. */
export interface Attack {
  carry(from: End, index: number, packet: Uint8Array, relay: Relay): readonly (readonly [End, Uint8Array])[]
  /** the packet at which the fault happens, and who then must notice */
  readonly fault: { readonly from: End; readonly index: number; readonly victim: End } | null
  /** nothing moves any more: what was held back may be delivered now */
  idle?(relay: Relay): boolean
}

export interface Play {
  /** codes with which the ends ended; undefined for an orderly end */
  readonly outcome: Readonly<Record<End, string | undefined>>
  readonly opened: boolean
  /** the fault happened: its packet was sent */
  readonly reached: boolean
  /** the whole conversation was had, as it was meant */
  readonly complete: boolean
  /** plaintext bytes that the victim's application got after the fault */
  readonly bytesAfterFault: number
  /** packets that the victim sent after the fault */
  readonly packetsAfterFault: number
  readonly packets: Readonly<Record<End, number>>
  readonly transcript: readonly { readonly from: End; readonly packet: Uint8Array }[]
}

export interface StageOptions {
  readonly random: Random
  readonly suite?: Suite
  /** the channel is no channel: the positive control */
  readonly broken?: boolean
  readonly clientFacts?: typeof facts
  readonly bendClient?: (suite: Suite) => Suite
}

const turn = () => new Promise<void>(resolve => setImmediate(resolve))
const OWNER_SECRET = new Uint8Array(32).fill(0x11)
const AGENT_SECRET = new Uint8Array(32).fill(0x22)
export const honest: Attack = { carry: (from, _index, packet) => [[otherEnd(from), packet]], fault: null }

/** Plays the conversation from handshake to close under an attack. */
export async function play(options: StageOptions, attack: Attack): Promise<Play> {
  const relay = new Relay()
  const clock = new StillClock()
  const heard: Record<End, number> = { client: 0, agent: 0 }
  const talk = converse(options, relay, clock, heard)
  const transcript: { from: End; packet: Uint8Array }[] = []
  let before: { heard: number; sent: number } | undefined
  for (let playedMs = 0; !talk.done() && playedMs < LONGEST_PLAY_MS; ) {
    const from = await nextSender(relay, talk.done)
    if (!from) {
      if (talk.done() || attack.idle?.(relay)) continue
      if (relay.closed) relay.cut()
      clock.advance(STEP_MS)
      playedMs += STEP_MS
      continue
    }
    const packet = relay.waiting[from].shift() as Uint8Array
    const index = relay.sent[from] - relay.waiting[from].length - 1
    transcript.push({ from, packet })
    const { fault } = attack
    if (fault && fault.from === from && fault.index === index) {
      await quiet()
      before = { heard: heard[fault.victim], sent: relay.sent[fault.victim] }
    }
    for (const [to, carried] of attack.carry(from, index, packet, relay)) relay.deliver(to, carried)
  }
  relay.cut()
  clock.advance(LONGEST_PLAY_MS)
  const ended = await talk.ended
  const victim = attack.fault?.victim ?? 'client'
  return {
    ...ended,
    reached: before !== undefined,
    bytesAfterFault: before ? heard[victim] - before.heard : 0,
    packetsAfterFault: before ? relay.sent[victim] - before.sent : 0,
    packets: { ...relay.sent },
    transcript,
  }
}

async function quiet(): Promise<void> {
  for (let i = 0; i < QUIET_TURNS; i++) await turn()
}

/** Who has a packet to send, once the ends had time; null when nothing moves. */
async function nextSender(relay: Relay, done: () => boolean): Promise<End | null> {
  for (let i = 0; i < QUIET_TURNS && !done(); i++) {
    await turn()
    if (relay.waiting.client.length > 0) return 'client'
    if (relay.waiting.agent.length > 0) return 'agent'
    if (relay.closed && i > 1) return null
  }
  return null
}

/** Both ends and what they say: the client sends chunks, the agent echoes them, both count. */
function converse(options: StageOptions, relay: Relay, clock: StillClock, heard: Record<End, number>) {
  const { random } = options
  let [done, opened, complete] = [false, false, false]
  const base = options.suite ?? nativeSuite
  const suite = options.broken ? brokenSuite(base) : base
  const client = seededSuite(suite, random, OWNER_SECRET)
  const pair: PairOptions = {
    clock,
    suites: { client: options.bendClient?.(client) ?? client, agent: seededSuite(suite, random, AGENT_SECRET) },
    through: () => [relay.end('client'), relay.end('agent')],
    ...(options.clientFacts ? { clientFacts: options.clientFacts } : {}),
    handlers: {
      async exec(call) {
        call.accept({})
        for await (const item of call.received()) {
          if (item.type !== 'data') continue
          heard.agent += item.bytes.length
          await call.write(item.bytes)
        }
        call.post('exit', { code: 0, signal: null })
      },
    },
  }
  const run = async () => {
    const { session, served } = await sessionPair(pair)
    opened = true
    const talk = async () => {
      const call = await session.open(exec, { argv: ['cat'] })
      const sent = Array.from({ length: CHUNKS }, () => random.bytes(1 + random.below(600)))
      void (async () => {
        for (const chunk of sent) {
          await call.write(chunk)
          await turn()
        }
        call.end()
      })().catch(() => undefined)
      const echoed: Uint8Array[] = []
      for await (const item of call.received()) {
        if (item.type !== 'data') continue
        heard.client += item.bytes.length
        echoed.push(item.bytes)
      }
      await quiet()
      session.close()
      return Buffer.concat(echoed).equals(Buffer.concat(sent))
    }
    complete = await talk().catch(() => false)
    const [clientError, agentError] = await Promise.all([session.closed, served])
    return { client: clientError?.code, agent: agentError?.code }
  }
  const ended = run()
    .catch((thrown: unknown) => {
      const code = (thrown as { code?: string }).code ?? String(thrown)
      return { client: code, agent: 'no-session' }
    })
    .then(outcome => {
      done = true
      return { outcome, opened, complete }
    })
  return { ended, done: () => done }
}
