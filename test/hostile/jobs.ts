/** What a run of `npm run hostile` consists of, as jobs that a process of its own can be given, and their results put together. */
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { ATTACKS } from './attacks.ts'
import { DATABASE_ATTACKS, runDatabaseAttack } from './database.ts'
import { runFlips } from './flips.ts'
import { type FuzzResult, fuzz } from './fuzz.ts'
import { type ModelCounts, runModel } from './model-steps.ts'
import { PARSERS } from './parsers.ts'
import { runChannelRecords, runRecords } from './records.ts'
import { runAttack, type Tally } from './tally.ts'

const SUITES = { native: nativeSuite, noble: nobleSuite } as const

export type Job =
  | { readonly kind: 'flips'; readonly suite: keyof typeof SUITES; readonly stride: number }
  | { readonly kind: 'records' | 'channel records'; readonly suite: keyof typeof SUITES; readonly times: number }
  | { readonly kind: 'attack' | 'database attack'; readonly name: string; readonly times: number }
  | { readonly kind: 'fuzz'; readonly name: string; readonly times: number }
  | { readonly kind: 'model'; readonly times: number }

export type JobResult =
  | { readonly kind: 'tallies'; readonly tallies: readonly Tally[] }
  | { readonly kind: 'fuzzed'; readonly fuzzed: FuzzResult }
  | { readonly kind: 'modelled'; readonly counts: ModelCounts; readonly broken: string | null }

/** One piece of a job; pieces of one job differ in their seeds and are put together again. */
export interface Piece {
  readonly job: Job
  /** of the job's own place among all */
  readonly index: number
  readonly seed: string
}

/** How often each thing is done. */
export interface Form {
  readonly plays: number
  readonly records: number
  readonly sessions: number
  readonly inputs: 'short' | 'nightly'
  readonly nobleStride: number
}
export const SHORT: Form = { plays: 100, records: 100_000, sessions: 1_000, inputs: 'short', nobleStride: 41 }
export const NIGHTLY: Form = {
  plays: 1_000,
  records: 10_000_000,
  sessions: 100_000,
  inputs: 'nightly',
  nobleStride: 3,
}

/** Name under which `--only` finds a job. */
function nameOf(job: Job): string {
  switch (job.kind) {
    case 'flips':
      return 'flip a bit of handshake message'
    case 'records':
      return 'mutate transport records'
    case 'channel records':
      return 'mutate records of a channel'
    case 'fuzz':
      return `fuzz ${job.name}`
    case 'model':
      return 'random sessions'
    default:
      return job.name
  }
}

/** Every job of a form, in the order of its report. Of the records a tenth is each for noble, and a hundredth for channels. */
export function jobsOf(form: Form, only: string): Job[] {
  const { plays, records } = form
  const jobs: Job[] = [
    { kind: 'flips', suite: 'native', stride: 1 },
    // the slower suite refuses in the same code; a bit of each byte shows it
    { kind: 'flips', suite: 'noble', stride: form.nobleStride },
    { kind: 'channel records', suite: 'native', times: Math.min(records / 100, 20_000) },
    { kind: 'channel records', suite: 'noble', times: Math.min(records / 1_000, 2_000) },
    { kind: 'records', suite: 'native', times: records },
    { kind: 'records', suite: 'noble', times: records / 10 },
    ...ATTACKS.map(({ name }): Job => ({ kind: 'attack', name, times: plays })),
    ...DATABASE_ATTACKS.map(({ name }): Job => ({ kind: 'database attack', name, times: plays })),
    ...PARSERS.map(({ name, inputs }): Job => ({ kind: 'fuzz', name, times: inputs[form.inputs] })),
    { kind: 'model', times: form.sessions },
  ]
  return jobs.filter(job => nameOf(job).includes(only))
}

/** Cuts what takes long into `shares`, so that several processes have a share of it. */
export function piecesOf(jobs: readonly Job[], seed: string, shares: number): Piece[] {
  return jobs.flatMap((job, index) => {
    const cut = job.kind === 'model' || (job.kind === 'records' && job.times > 200_000) ? shares : 1
    return Array.from({ length: cut }, (_, share): Piece => {
      const times = 'times' in job ? { times: job.times / cut } : {}
      return { job: { ...job, ...times } as Job, index, seed: cut === 1 ? seed : `${seed}.${share}` }
    })
  })
}

const rowOf = <R extends { readonly name: string }>(rows: readonly R[], name: string): R => {
  const row = rows.find(item => item.name === name)
  if (!row) throw new Error(`nothing is called ${name}`)
  return row
}

export async function runPiece({ job, seed }: Piece): Promise<JobResult> {
  const tallies = (...made: readonly Tally[]): JobResult => {
    const named = 'suite' in job && job.suite === 'noble'
    return {
      kind: 'tallies',
      tallies: made.map(tally => (named ? { ...tally, attack: `${tally.attack} (noble)` } : tally)),
    }
  }
  switch (job.kind) {
    case 'flips':
      return tallies(...(await runFlips({ seed, suite: SUITES[job.suite], stride: job.stride })))
    case 'records':
      return tallies(runRecords(SUITES[job.suite], job.times, seed))
    case 'channel records':
      return tallies(await runChannelRecords(SUITES[job.suite], job.times, seed))
    case 'attack':
      return tallies(await runAttack(rowOf(ATTACKS, job.name), job.times, seed))
    case 'database attack':
      return tallies(await runDatabaseAttack(rowOf(DATABASE_ATTACKS, job.name), job.times, seed))
    case 'fuzz':
      return { kind: 'fuzzed', fuzzed: fuzz(rowOf(PARSERS, job.name), job.times, seed) }
    case 'model': {
      const none: ModelCounts = { runs: 0, streams: 0, bytesRead: 0, filledWindows: 0 }
      try {
        return { kind: 'modelled', counts: await runModel(job.times, numberOf(seed)), broken: null }
      } catch (thrown) {
        return { kind: 'modelled', counts: none, broken: (thrown as Error).message }
      }
    }
  }
}

/** fast-check takes a number */
function numberOf(seed: string): number {
  let hash = 2_166_136_261
  for (let i = 0; i < seed.length; i++) hash = Math.imul(hash ^ seed.charCodeAt(i), 16_777_619)
  return hash & 0x7fffffff
}

/** Puts the results of the pieces of one job together. */
export function join(a: JobResult, b: JobResult): JobResult {
  if (a.kind === 'tallies' && b.kind === 'tallies') {
    const tallies = a.tallies.map((tally, i): Tally => {
      const other = b.tallies[i] as Tally
      return {
        attack: tally.attack,
        tried: tally.tried + other.tried,
        detected: tally.detected + other.detected,
        bytesAfter: tally.bytesAfter + other.bytesAfter,
        failures: [...tally.failures, ...other.failures],
      }
    })
    return { kind: 'tallies', tallies }
  }
  if (a.kind === 'modelled' && b.kind === 'modelled') {
    const counts = {
      runs: a.counts.runs + b.counts.runs,
      streams: a.counts.streams + b.counts.streams,
      bytesRead: a.counts.bytesRead + b.counts.bytesRead,
      filledWindows: a.counts.filledWindows + b.counts.filledWindows,
    }
    return { kind: 'modelled', counts, broken: a.broken ?? b.broken }
  }
  throw new Error(`${a.kind} and ${b.kind} are of different jobs`)
}
