/**
 * Kills clients, broker and agent at random moments while programs with numbered output run, starts them again, and counts:
 * what was lost, repeated or told wrongly, what was left running, and how long it took until all went on. SPEC §8.2
 */
import { readFileSync } from 'node:fs'
import { Random } from '../hostile/random.ts'
import type { Order, Report } from './kill-report.ts'
import { type Client, type KillingPlace, makePlace } from './killing-place.ts'

export interface KillCounts {
  readonly kills: { client: number; broker: number; agent: number }
  /** programs whose every line and exit status came to their client */
  whole: number
  /** programs that ended with a killed agent, of which their client was told so */
  told: number
  /** programs whose client was killed */
  abandoned: number
  /** what must not be: lost or repeated output, an end that did not come, processes that were left */
  readonly wrong: string[]
  /** ms from the last restart of a round until the last program of it was whole, without the program's own time */
  readonly returnsMs: number[]
}

const CLIENTS = 4
const KILLS_AT_ONCE = 4
/** ms within which a program's client hears of its end, beyond the program's own time */
const MOST_RETURN_MS = 60_000
const ORPHAN_MS = 5_000

const soon = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** Whether our program of that id is there, and not merely waiting to be reaped. */
function isRunning(pid: number): boolean {
  try {
    return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes('@ARGV')
  } catch {
    return false
  }
}

/** One program: what was asked for, what came of it. */
class Job {
  readonly order: Order
  readonly durationMs: number
  pid: number | undefined
  readonly ended = Promise.withResolvers<Report | 'abandoned' | 'late'>()

  constructor(client: Client, random: Random) {
    this.order = { lines: 20 + random.below(100), everyMs: 5 + random.below(15), code: random.below(256) }
    this.durationMs = this.order.lines * this.order.everyMs
    client.report = report => {
      if (report.kind === 'began') this.pid = report.pid
      else this.ended.resolve(report)
    }
    client.victim.say(this.order)
    const late = setTimeout(() => this.ended.resolve('late'), this.durationMs + MOST_RETURN_MS)
    void this.ended.promise.then(() => clearTimeout(late))
  }
}

/** Whether what runs when the agent is killed must be whole too. */
const PROGRAMS_OUTLIVE_AGENT = false

export async function runKills(kills: number, seed: string): Promise<KillCounts> {
  const random = new Random(`${seed}/kills`)
  const counts: KillCounts = {
    kills: { client: 0, broker: 0, agent: 0 },
    whole: 0,
    told: 0,
    abandoned: 0,
    wrong: [],
    returnsMs: [],
  }
  const killed = () => counts.kills.client + counts.kills.broker + counts.kills.agent
  const place = await makePlace(CLIENTS)
  const orphans: Promise<void>[] = []
  try {
    while (killed() < kills) orphans.push(...(await runRound(place, random, counts)))
    await Promise.all(orphans)
  } finally {
    await place.remove()
  }
  return counts
}

/** One round: a program at every client, up to four kills, all that goes on until every program's end is known. */
async function runRound(place: KillingPlace, random: Random, counts: KillCounts): Promise<Promise<void>[]> {
  const jobs = place.clients.map(client => new Job(client, random))
  let [agentKilled, restartedMs] = [false, 0]
  const kill = async () => {
    await soon(random.below(1_500))
    const choice = random.below(10)
    if (choice < 4) {
      const index = random.below(place.clients.length)
      const [client, job] = [place.clients[index] as Client, jobs[index] as Job]
      counts.kills.client++
      await client.victim.kill()
      job.ended.resolve('abandoned')
      place.startClient(client)
    } else if (choice < 7) {
      counts.kills.broker++
      await place.broker.kill()
      await soon(random.below(300))
      await place.broker.ready()
    } else {
      counts.kills.agent++
      agentKilled = true
      await place.agent.kill()
      await soon(random.below(300))
      place.agent.start()
    }
    restartedMs = performance.now()
  }
  // one after the other, as only one of each can be killed at a time
  const killing = (async () => {
    for (let i = 1 + random.below(KILLS_AT_ONCE); i > 0; i--) await kill()
  })()
  const orphans: Promise<void>[] = []
  for (const job of jobs) {
    const report = await job.ended.promise
    const what = `program ${JSON.stringify(job.order)}`
    if (report === 'abandoned') counts.abandoned++
    else if (report === 'late') counts.wrong.push(`${what}: no end after ${MOST_RETURN_MS} ms`)
    else if (report.kind === 'whole') counts.whole++
    else if (report.kind === 'failed' && agentKilled && !PROGRAMS_OUTLIVE_AGENT) counts.told++
    else counts.wrong.push(`${what}: ${JSON.stringify(report)}`)
    const { pid } = job
    if (pid !== undefined) orphans.push(seeNoOrphan(pid, report === 'abandoned' ? job.durationMs : 0, counts))
  }
  await killing
  if (restartedMs > 0) counts.returnsMs.push(Math.max(0, performance.now() - restartedMs))
  return orphans
}

/** A program is gone once it had the time to end. */
async function seeNoOrphan(pid: number, durationMs: number, counts: KillCounts): Promise<void> {
  for (let waitedMs = 0; isRunning(pid); waitedMs += 100) {
    if (waitedMs > durationMs + ORPHAN_MS) {
      counts.wrong.push(`process ${pid} was left running`)
      return
    }
    await soon(100)
  }
}
