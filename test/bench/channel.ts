/**
 * The channel from end to end: E1 native ends through the broker against `ssh host cat` with the same cipher; E3 noble ends
 * against what one core seals by noble alone. Rounds alternate, so that a busy machine slows both.
 */
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Bench, Measured } from './benches.ts'
import { Child } from './child.ts'
import { SshPeer, sshMissing } from './ssh-peer.ts'

const MIB = 2 ** 20
const SIZES = { native: 512 * MIB, noble: 96 * MIB, ssh: 512 * MIB, seal: 64 * MIB }

export class Relay {
  readonly #host: Child
  readonly #urls: { readonly url: string; readonly agentUrl: string }

  private constructor(host: Child, urls: { readonly url: string; readonly agentUrl: string }) {
    this.#host = host
    this.#urls = urls
  }

  static async start(flags: readonly string[] = []): Promise<Relay> {
    const host = Child.node('relay-host.ts', [], flags)
    return new Relay(host, await host.read())
  }

  /** MiB/s of one stream from the agent's end to the client's. */
  async stream(suite: 'native' | 'noble', flags: readonly string[] = []): Promise<number> {
    this.#host.write('pair')
    const tokens = await this.#host.read<{ client: string; agent: string }>()
    const agent = Child.node('channel-end.ts', ['agent', this.#urls.agentUrl, tokens.agent, suite], flags)
    const client = Child.node(
      'channel-end.ts',
      ['client', this.#urls.url, tokens.client, suite, `${SIZES[suite]}`],
      flags,
    )
    try {
      const { seconds } = await client.read<{ seconds: number }>()
      await Promise.all([agent.ended, client.ended])
      return SIZES[suite] / MIB / seconds
    } finally {
      await Promise.all([agent.stop(), client.stop()])
    }
  }

  stop(): Promise<void> {
    return this.#host.stop()
  }
}

/** MiB/s that this core seals by noble, in full records. */
function sealAlone(): number {
  const aead = nobleSuite.algorithms.aead(new Uint8Array(32).fill(1))
  const record = new Uint8Array(LIMITS.recordPlaintextBytes)
  const count = Math.ceil(SIZES.seal / record.length)
  const started = performance.now()
  for (let i = 0; i < count; i++) aead.seal(i, new Uint8Array(0), record)
  return SIZES.seal / MIB / ((performance.now() - started) / 1000)
}

async function measure(rounds: number, tell: (text: string) => void): Promise<Measured> {
  const missing = sshMissing()
  const relay = await Relay.start()
  const ssh = missing ? null : await SshPeer.start()
  const figures: Record<'native' | 'ssh' | 'noble' | 'seal', number[]> = { native: [], ssh: [], noble: [], seal: [] }
  const steps: Record<keyof typeof figures, () => Promise<number>> = {
    native: () => relay.stream('native'),
    ssh: async () => {
      if (!ssh) return Number.NaN
      const connecting = await ssh.cat(1)
      return SIZES.ssh / MIB / ((await ssh.cat(SIZES.ssh)) - connecting)
    },
    noble: () => relay.stream('noble'),
    seal: async () => sealAlone(),
  }
  try {
    const order = Object.keys(steps) as (keyof typeof figures)[]
    // the first round compiles and fills caches, and is not counted
    for (let round = 0; round <= rounds; round++) {
      for (const name of round % 2 === 0 ? order : order.toReversed()) {
        const figure = await steps[name]()
        if (round > 0) figures[name].push(figure)
        tell(`round ${round}: ${name} ${figure.toFixed(0)} MiB/s`)
      }
    }
  } finally {
    await relay.stop()
    await ssh?.stop()
  }
  return {
    figures,
    unit: 'MiB/s',
    skipped: missing ? { E1: `ssh: ${missing}` } : {},
  }
}

export const channel: Bench = {
  name: 'channel',
  says: 'one stream through channel, multiplexer, WebSockets and relay',
  measure,
  goals: [
    {
      id: 'E1',
      what: 'native ends / ssh host cat (chacha20-poly1305)',
      ours: 'native',
      peer: 'ssh',
      gate: 0.7,
      aim: 1,
    },
    { id: 'E3', what: 'noble ends / noble sealing on one core', ours: 'noble', peer: 'seal', gate: 0.35, aim: 0.7 },
  ],
}
