/**
 * Running a program in a real VM: our agent, sshd and qemu-ga in the same one. sshd is reached past broker, network and agent, as
 * directly as anything reaches a VM.
 */
import { execFileSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { nodeHost } from '../../client/node/host.ts'
import { readIdentityFile } from '../../client/node/keystore.ts'
import { Machine, type Person } from '../support/machine.ts'
import type { Bench, Measured } from './benches.ts'
import { GOALS, guestAgentWays, missingPeers } from './exec.ts'
import { measureWays, type Way } from './exec-rounds.ts'
import { GuestAgent } from './guest-agent.ts'
import { connectAndExec, openExec } from './our-exec.ts'
import { ControlledSsh, coldSsh } from './ssh-client.ts'
import { Stopwatch } from './stopwatch.ts'
import { VmDoor } from './vm-door.ts'
import { startPeers, VM_USER } from './vm-peers.ts'

const SAMPLES = 8
/** of what takes a second and more */
const SLOW_SAMPLES = 2
const VM = 'bench'

/** The command, as people type it. */
function mortarExec(watch: Stopwatch, machine: Machine, perRound: number): Way {
  const run = (argv: readonly string[]) => watch.time([machine.binaries.client, '--quiet', 'exec', VM, '--', ...argv])
  return { name: 'mortar exec', perRound, once: async () => (await run(['true'])).ms, run }
}

const identityOf = (person: Person) =>
  readIdentityFile(nodeHost.suite, person.identityPath, () => Promise.reject(new Error('it has no passphrase')))

async function measure(rounds: number, tell: (text: string) => void): Promise<Measured> {
  const skipped = missingPeers()
  if (!existsSync('/usr/bin/virsh')) throw new Error('the bench in a VM needs virsh (libvirt-clients)')
  const stops: (() => unknown)[] = []
  try {
    const machine = await Machine.start()
    stops.push(() => machine.dispose())
    const { owner } = machine.people
    const { id } = await machine.launch(owner, VM)
    tell(`${execFileSync('qemu-system-x86_64', ['--version'], { encoding: 'utf8' }).split('\n')[0]}`)
    const peers = await startPeers(machine, { id, name: VM }, !skipped.X2)
    const ours = { url: machine.url, identity: await identityOf(owner), id }
    const watch = new Stopwatch(machine.environment(owner))
    stops.push(() => watch.stop())
    const { way, session } = await openExec(ours, SAMPLES)
    stops.push(() => session.close())
    const ways: Way[] = [way, connectAndExec(ours, SLOW_SAMPLES), mortarExec(watch, machine, SLOW_SAMPLES)]
    const server = async (port: 'control' | 'cold') => {
      const door = await VmDoor.open(peers.ports[port])
      stops.push(() => door.close())
      return { folder: peers.folder, port: door.port, user: VM_USER }
    }
    const control = await ControlledSsh.start(watch, await server('control'), SAMPLES)
    stops.push(() => control.stop())
    ways.push(control.way, coldSsh(watch, await server('cold'), SLOW_SAMPLES))
    if (!skipped.X2) {
      const agent = await GuestAgent.connect(peers.ports.ga)
      stops.push(() => agent.close())
      ways.push(...guestAgentWays(agent, SAMPLES))
    }
    return { ...(await measureWays(ways, rounds, tell)), skipped }
  } finally {
    for (const stop of stops.toReversed()) await stop()
  }
}

export const execInVm: Bench = {
  name: 'exec',
  vm: true,
  says: 'true in a VM, in ms: p50 (least)',
  measure,
  goals: [
    { ...GOALS.control, gate: 0.8, aim: 0.5 },
    { ...GOALS.polled, gate: 0.5, aim: 0.25 },
    { ...GOALS.eager, gate: null, aim: null },
    { ...GOALS.cold, gate: 0.3, aim: 0.1 },
    {
      id: 'X3b',
      what: 'the command mortar exec / ssh, cold',
      ours: 'mortar exec',
      peer: 'ssh, cold',
      better: 'less',
      gate: null,
      aim: null,
    },
  ],
}
