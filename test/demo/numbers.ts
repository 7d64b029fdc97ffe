/** The figures that the demo prints beside the most they should be. Printed, not enforced: a busy machine is no fault. */
import { spawn } from 'node:child_process'
import { copyFile, mkdtemp, readdir, rm } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { createOverlay } from '../../broker/images/overlay.ts'
import type { Machine } from '../support/machine.ts'
import { rssOf } from '../support/process.ts'

const ROUNDS = 50
const BROKER_IDLE_MS = 7_000
const MiB = 2 ** 20

interface Figure {
  readonly what: string
  readonly value: number
  readonly most: number
  readonly unit: string
}

/** What was seen on the way. */
export interface Seen {
  /** from the start of the domain */
  readonly enrolledSeconds: number
  readonly idleAgentBytes: number
}

export async function measure(machine: Machine, seen: Seen): Promise<Figure[]> {
  const agentBytes = seen.idleAgentBytes - (await bareNodeRss(machine))
  return [
    { what: 'overlay, above the copy of a file of its size', value: await overlayMs(machine), most: 1, unit: 'ms' },
    { what: 'idle agent in the VM, RSS above bare Node', value: agentBytes / MiB, most: 20, unit: 'MiB' },
    { what: 'idle broker, RSS', value: (await idleBrokerRss(machine)) / MiB, most: 90, unit: 'MiB' },
    { what: 'from power-on to enrolled', value: seen.enrolledSeconds, most: 60, unit: 's' },
  ]
}

export function printFigures(figures: readonly Figure[]): void {
  console.log('\nNumbers')
  for (const { what, value, most, unit } of figures) {
    const verdict = value <= most ? 'within' : 'OVER'
    console.log(`  ${what.padEnd(46)} ${value.toFixed(2).padStart(8)} ${unit.padEnd(3)}  ${verdict} ${most} ${unit}`)
  }
  console.log('  printed, not enforced: on a busy machine, or one without KVM, OVER is no fault')
}

/** ms after which an agent that nobody used yet has become idle and said so, with room for an emulated CPU */
const AGENT_IDLE_MS = 25_000

/**
 * RSS in bytes of the agent before anybody used it: it says so itself in the VM's journal, which the first session then reads, since
 * asking would have opened one.
 */
export async function idleAgentRss(machine: Machine, vm: string): Promise<number> {
  await delay(AGENT_IDLE_MS)
  const journal = ['journalctl', '--unit', 'mortar-agent', '--output', 'cat', '--no-pager']
  const lines = await machine.inVm(machine.people.owner, vm, journal, { user: 'root' })
  const found = /"agent\.idle","rssBytes":(\d+)/.exec(lines)?.[1]
  if (!found) throw new Error('the agent did not become idle')
  return Number(found)
}

/** RSS in bytes of the broker after all that, once it has had nothing to do for a while. */
async function idleBrokerRss(machine: Machine): Promise<number> {
  await delay(BROKER_IDLE_MS)
  return rssOf(machine.brokerPid)
}

/** Median ms of an overlay less the median ms of copying a finished one, in turns so that both meet the same machine. */
async function overlayMs(machine: Machine): Promise<number> {
  if (!machine.brick) throw new Error('no brick')
  const folder = await mkdtemp(join(machine.folder, 'overlay-'))
  try {
    const template = join(folder, 'template')
    await createOverlay(machine.brick.imagePath, template, join(folder, 'first.qcow2'))
    const [made = ''] = await readdir(template)
    const times: Record<'overlay' | 'copy', number[]> = { overlay: [], copy: [] }
    for (let round = 0; round < ROUNDS; round++) {
      let started = performance.now()
      await createOverlay(machine.brick.imagePath, template, join(folder, `${round}.qcow2`))
      times.overlay.push(performance.now() - started)
      started = performance.now()
      await copyFile(join(template, made), join(folder, `${round}.copy`))
      times.copy.push(performance.now() - started)
    }
    return median(times.overlay) - median(times.copy)
  } finally {
    await rm(folder, { recursive: true, force: true })
  }
}

/** RSS in bytes of Node doing nothing: the same stripped Node that the agent is made of. */
async function bareNodeRss({ binaries }: Machine): Promise<number> {
  const node = join(binaries.agent, '..', `node-${process.version}`)
  const child = spawn(node, ['-e', 'setTimeout(() => {}, 60_000)'], { stdio: 'ignore', cwd: tmpdir() })
  try {
    await delay(1_500)
    return rssOf(child.pid ?? 0)
  } finally {
    child.kill('SIGKILL')
  }
}

function median(values: readonly number[]): number {
  return [...values].sort((a, b) => a - b)[Math.floor(values.length / 2)] ?? Number.NaN
}
