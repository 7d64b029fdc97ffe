/** A3 to A7: the jobs of `npm run hostile -- --nightly`, counted together by number. */
import { type FuzzResult, sound } from '../hostile/fuzz.ts'
import { type Job, type JobResult, jobsOf, NIGHTLY, piecesOf } from '../hostile/jobs.ts'
import { runPieces } from '../hostile/pool.ts'
import { holds, type Tally } from '../hostile/tally.ts'
import { inDigits, inMiB, type Outcome } from './outcome.ts'

const ROWS = {
  A3: { what: 'every single-bit flip of all three handshake messages', asked: '100 % refused' },
  A4: { what: 'mutations of transport records', asked: '10,000,000, 0 accepted' },
  A5: {
    what: 'random and mutated input, all parsers',
    asked: '10,000,000, 0 crash, 0 hang over 50 ms, growth < 32 MiB',
  },
  A6: { what: 'random sessions against their model', asked: '100,000, 0 divergence' },
  A7: { what: "man in the middle, and holder of the broker's database", asked: '1,000 of each, 100 %, 0 bytes after' },
} as const
type Id = keyof typeof ROWS
export const HOSTILE = Object.keys(ROWS) as Id[]

const NUMBER_OF: Readonly<Record<Job['kind'], Id>> = {
  flips: 'A3',
  records: 'A4',
  'channel records': 'A4',
  fuzz: 'A5',
  model: 'A6',
  attack: 'A7',
  'database attack': 'A7',
}

/** `scale`: 1 for what is asked, less to try it out. */
export async function runHostileNumber(id: Id, seed: string, scale: number): Promise<Outcome> {
  const startMs = performance.now()
  const jobs = jobsOf(NIGHTLY, '')
    .filter(({ kind }) => NUMBER_OF[kind] === id)
    .map((job): Job => ('times' in job ? { ...job, times: Math.max(4, Math.ceil((job.times * scale) / 4) * 4) } : job))
    .map((job): Job => ('stride' in job && scale < 1 ? { ...job, stride: Math.ceil(job.stride / scale) } : job))
  const results: JobResult[] = []
  await runPieces(piecesOf(jobs, seed, 4), 2, ({ result }) => {
    results.push(result)
    console.log(`  ${id} ${shortly(result)}`)
  })
  return { id, ...ROWS[id], ...sumUp(results), seconds: (performance.now() - startMs) / 1_000 }
}

function shortly(result: JobResult): string {
  if (result.kind === 'tallies') {
    return result.tallies.map(({ attack, tried, detected }) => `${attack}: ${detected} of ${tried}`).join(', ')
  }
  if (result.kind === 'fuzzed') return `${result.fuzzed.parser}: ${result.fuzzed.tried}`
  return result.broken ?? JSON.stringify(result.counts)
}

function sumUp(results: readonly JobResult[]): Pick<Outcome, 'done' | 'held' | 'note'> {
  const tallies: Tally[] = []
  const fuzzed: FuzzResult[] = []
  for (const result of results) {
    if (result.kind === 'tallies') tallies.push(...result.tallies)
    else if (result.kind === 'fuzzed') fuzzed.push(result.fuzzed)
    else {
      const { counts, broken } = result
      return {
        done: inDigits(counts.runs),
        held: broken === null,
        note: broken ?? `${inDigits(counts.streams)} streams, ${inMiB(counts.bytesRead)} read`,
      }
    }
  }
  if (fuzzed.length > 0) {
    const wrong = fuzzed.filter(result => !sound(result))
    const slowest = Math.max(...fuzzed.map(({ slowestMs }) => slowestMs))
    const growth = Math.max(...fuzzed.map(({ growthBytes }) => growthBytes))
    return {
      done: inDigits(fuzzed.reduce((sum, { tried }) => sum + tried, 0)),
      held: wrong.length === 0,
      note: `${fuzzed.length} parsers, slowest ${slowest.toFixed(1)} ms, most growth ${inMiB(growth)}${wrong
        .map(({ parser, findings }) => `; ${parser}: ${findings[0]?.why ?? 'grew'}`)
        .join('')}`,
    }
  }
  const wrong = tallies.filter(tally => !holds(tally))
  const tried = tallies.reduce((sum, tally) => sum + tally.tried, 0)
  return {
    done: inDigits(tried),
    held: wrong.length === 0,
    note:
      wrong.length > 0
        ? wrong.map(tally => `${tally.attack}: ${tally.failures.join(' ')}`).join('; ')
        : `${tallies.length} kinds`,
  }
}
