/**
 * Kills clients, broker and agent at random moments while programs with numbered output run, starts them again, and counts:
 * what was lost, repeated or told wrongly, what was left running, and how long it took until all went on. SPEC §8.2
 */
import { Random } from '../hostile/random.ts'
import type { Order, Report } from './kill-report.ts'
import { type Client, type KillingPlace, makePlace, processesWith } from './killing-place.ts'

type KillKind = 'client' | 'broker' | 'agent' | 'runner'

export interface KillCounts {
  readonly kills: Record<KillKind, number>
  /** programs whose every line and exit status came to their client */
  whole: number
  /** programs that ended with the runner that held them, of which their client was told so (`runner-lost`) */
  told: number
  /** the same while the agent was away too, of which nobody is left who knows (`call-unknown`) */
  forgotten: number
  /** programs whose beginning was lost on the way, of which their client was told so */
  neverBegan: number
  /** programs whose client was killed */
  abandoned: number
  /** what must not be: lost or repeated output, an end that did not come, processes that were left */
  readonly wrong: string[]
  /**
   * ms of each round from its last kill until the end of every program came that was still to come, without the time that
   * a program takes by itself
   */
  readonly returnsMs: number[]
}

const CLIENTS = 4
const KILLS_AT_ONCE = 4
/** ms within which a program's client hears of its end, beyond the program's own time */
const MOST_RETURN_MS = 60_000
const ORPHAN_MS = 5_000

const soon = (ms: number) => new Promise<void>(resolve => setTimeout(resolve, ms))

/** One program: what was asked for, what came of it. */
class Job {
  readonly order: Order
  readonly durationMs: number
  /** when its client was told to run it, and when it had told its end; 0: not yet */
  readonly askedMs = performance.now()
  endedMs = 0
  began = false
  abandoned = false
  readonly ended = Promise.withResolvers<Report | 'abandoned' | 'late'>()

  constructor(client: Client, random: Random) {
    this.order = {
      lines: 20 + random.below(100),
      everyMs: 5 + random.below(15),
      code: random.below(256),
      tag: random.uuid(),
    }
    this.durationMs = this.order.lines * this.order.everyMs
    client.report = report => {
      if (report.kind === 'began') this.began = true
      else this.ended.resolve(report)
    }
    client.victim.say(this.order)
    const late = setTimeout(() => this.ended.resolve('late'), this.durationMs + MOST_RETURN_MS)
    void this.ended.promise.then(report => {
      this.abandoned = report === 'abandoned'
      clearTimeout(late)
      this.endedMs = performance.now()
    })
  }
}

export async function runKills(kills: number, seed: string): Promise<KillCounts> {
  const random = new Random(`${seed}/kills`)
  const counts: KillCounts = {
    kills: { client: 0, broker: 0, agent: 0, runner: 0 },
    whole: 0,
    told: 0,
    forgotten: 0,
    neverBegan: 0,
    abandoned: 0,
    wrong: [],
    returnsMs: [],
  }
  const killed = () => Object.values(counts.kills).reduce((sum, kills) => sum + kills)
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
  const downs = new Downs()
  let restartedMs = 0
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
      const runners = place.runners()
      const runner = choice === 9 && runners.length > 0 ? random.pick(runners) : undefined
      counts.kills[runner === undefined ? 'agent' : 'runner']++
      if (runner !== undefined) {
        downs.runner(place.agentIsBack())
        process.kill(runner, 'SIGKILL')
      } else {
        downs.agent()
        await place.agent.kill()
        await soon(random.below(300))
        place.agent.start()
      }
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
    else if (report.kind === 'failed' && report.code === 'runner-lost' && downs.tookRunner(job)) counts.told++
    else if (report.kind === 'failed' && report.code === 'call-unknown' && downs.tookBoth(job)) counts.forgotten++
    else if (neverBegan(report, job)) counts.neverBegan++
    else counts.wrong.push(`${what}, ${job.began ? 'begun' : 'not begun'}: ${JSON.stringify(report)}`)
    orphans.push(seeNoOrphan(job, report === 'abandoned', counts))
  }
  await killing
  // a client that was killed waits for nothing
  const waited = jobs.filter(job => job.endedMs > restartedMs && !job.abandoned)
  const returns = waited.map(job => job.endedMs - Math.max(restartedMs, job.askedMs + job.durationMs))
  if (returns.length > 0) counts.returnsMs.push(Math.max(0, ...returns))
  return orphans
}

/** What was away when, in a round: it says which failures a client may be told of. */
class Downs {
  readonly #runnersMs: number[] = []
  readonly #bothMs: number[] = []

  /** A runner is killed. An agent that is not back knows nothing of what it held. */
  runner(agentIsBack: boolean): void {
    this.#runnersMs.push(performance.now())
    if (!agentIsBack) this.#bothMs.push(performance.now())
  }

  /** The agent is killed. What it knew of a runner's end is gone, where the client had not heard of it. */
  agent(): void {
    if (this.#runnersMs.length > 0) this.#bothMs.push(performance.now())
  }

  tookRunner = ({ endedMs }: Job): boolean => this.#runnersMs.some(ms => ms <= endedMs)
  tookBoth = ({ endedMs }: Job): boolean => this.#bothMs.some(ms => ms <= endedMs)
}

/** The request to begin it was lost on the way, which the agent says once the client comes for it; it must not run then. SPEC §8.2 */
const neverBegan = (report: Report, { began, order }: Job): boolean =>
  report.kind === 'failed' && report.code === 'call-unknown' && !began && processesWith(order.tag).length === 0

/** A program is gone once it had the time to end, or at once when its client was told of its end. */
async function seeNoOrphan({ order, durationMs }: Job, abandoned: boolean, counts: KillCounts): Promise<void> {
  const mostMs = ORPHAN_MS + (abandoned ? durationMs : 0)
  for (let waitedMs = 0; processesWith(order.tag).length > 0; waitedMs += 500) {
    if (waitedMs > mostMs) {
      counts.wrong.push(`program ${JSON.stringify(order)} was left running`)
      return
    }
    await soon(500)
  }
}
