/**
 * Running a program, on this machine: broker and agent are processes, as are sshd and qemu-ga. X1 over what is open already;
 * X2 against an agent whose callers poll; X3 from nothing to the first result.
 */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { Identity } from '../../client/identity/identity.ts'
import { nodeHost } from '../../client/node/host.ts'
import { waitVm } from '../../client/vms/vm.ts'
import { decodeHex } from '../../protocol/core/bytes.ts'
import { AgentProcess } from '../processes/agent-support.ts'
import type { Bench, Goal, Measured } from './benches.ts'
import { Child } from './child.ts'
import { EAGER_AGENT, measureWays, POLL_MS, type Way } from './exec-rounds.ts'
import { GuestAgent, guestAgentMissing, QEMU_GA } from './guest-agent.ts'
import { connectAndExec, type OurVm, openExec } from './our-exec.ts'
import { ControlledSsh, coldSsh } from './ssh-client.ts'
import { SshPeer, sshMissing } from './ssh-peer.ts'
import { Stopwatch } from './stopwatch.ts'

const SAMPLES = 20
/** of what takes a fifth of a second and more */
const SLOW_SAMPLES = 4
const ENROL_MS = 30_000

const LESS = { better: 'less' } as const
export const GOALS = {
  control: {
    id: 'X1',
    what: 'exec / ssh over a control connection',
    ours: 'exec',
    peer: 'ssh, control connection',
    ...LESS,
  },
  polled: { id: 'X2', what: 'exec / qemu-ga, polled every 10 ms', ours: 'exec', peer: 'qemu-ga', ...LESS },
  eager: { id: 'X2b', what: 'exec / qemu-ga, polled without a pause', ours: 'exec', peer: EAGER_AGENT, ...LESS },
  cold: { id: 'X3', what: 'connect and exec / ssh, cold', ours: 'connect and exec', peer: 'ssh, cold', ...LESS },
} as const satisfies Record<string, Omit<Goal, 'gate' | 'aim'>>

/** Goals that have no peer here, and why. */
export function missingPeers(): Record<string, string> {
  const [ssh, agent] = [sshMissing(), guestAgentMissing()]
  return { ...(ssh && { X1: ssh, X3: ssh, X3b: ssh }), ...(agent && { X2: agent, X2b: agent }) }
}

/** qemu-ga on a Unix socket, as a program of this machine. */
async function startGuestAgent(folder: string): Promise<{ agent: GuestAgent; process: Child }> {
  const path = join(folder, 'ga.sock')
  const process = new Child(QEMU_GA, ['-m', 'unix-listen', '-p', path, '-t', folder, '-f', join(folder, 'ga.pid')])
  return { agent: await GuestAgent.connect(path), process }
}

export const guestAgentWays = (agent: GuestAgent, perRound: number): Way[] => [
  agent.way('qemu-ga', POLL_MS, perRound),
  agent.way(EAGER_AGENT, 0, perRound),
]

/** Broker and agent as processes. */
async function startOurs(stops: (() => unknown)[]): Promise<OurVm> {
  const host = Child.node('exec-host.ts', [])
  stops.push(() => host.stop())
  const told = await host.read<Record<'url' | 'agentUrl' | 'vm' | 'seed' | 'ticket' | 'launchSecret', string>>()
  const launch = { signed: decodeHex(told.ticket), launchSecret: decodeHex(told.launchSecret) }
  const agent = new AgentProcess({ launch, url: told.agentUrl }).start()
  stops.push(() => agent.remove())
  const identity = Identity.fromSeed(nodeHost.suite, decodeHex(told.seed))
  const broker = new BrokerApi({ url: told.url, identity, pins: pinsInMemory() })
  await waitVm(broker, nodeHost.clock, told.vm, { goal: 'enrolled', timeoutMs: ENROL_MS })
  return { url: told.url, identity, id: told.vm }
}

async function measure(rounds: number, tell: (text: string) => void): Promise<Measured> {
  const skipped = missingPeers()
  const folder = mkdtempSync(join(tmpdir(), 'mortar-bench-exec-'))
  const stops: (() => unknown)[] = [() => rmSync(folder, { recursive: true, force: true })]
  try {
    const watch = new Stopwatch()
    stops.push(() => watch.stop())
    const ours = await startOurs(stops)
    const { way, session } = await openExec(ours, SAMPLES)
    stops.push(() => session.close())
    const ways: Way[] = [way, connectAndExec(ours, SLOW_SAMPLES)]
    if (!skipped.X1) {
      const sshd = await SshPeer.start({ SetEnv: `HOME=${folder}` })
      stops.push(() => sshd.stop())
      const control = await ControlledSsh.start(watch, sshd.server, SAMPLES)
      stops.push(() => control.stop())
      ways.push(control.way, coldSsh(watch, sshd.server, SLOW_SAMPLES))
    }
    if (!skipped.X2) {
      const { agent, process } = await startGuestAgent(folder)
      stops.push(
        () => process.stop(),
        () => agent.close(),
      )
      ways.push(...guestAgentWays(agent, SAMPLES))
    }
    return { ...(await measureWays(ways, rounds, tell)), skipped }
  } finally {
    for (const stop of stops.toReversed()) await stop()
  }
}

export const exec: Bench = {
  name: 'exec',
  says: 'true by a broker and an agent that are processes of this machine, in ms: p50 (least)',
  measure,
  goals: [
    { ...GOALS.control, gate: 0.5, aim: 0.35 },
    { ...GOALS.polled, gate: 0.5, aim: 0.25 },
    { ...GOALS.eager, gate: null, aim: null },
    { ...GOALS.cold, gate: 0.3, aim: 0.1 },
  ],
}
