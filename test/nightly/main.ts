/** npm run nightly: every number that security rests on, at its full size, as a table that is kept in the repository. */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import { cpus } from 'node:os'
import { readNumber, readOptions, refuseOptions } from '../support/options.ts'
import { runBootOrders } from './boot-orders.ts'
import { HOSTILE, runHostileNumber } from './hostile-numbers.ts'
import type { Outcome } from './outcome.ts'
import { runKillNumber, runLoadNumber, runNonceNumber } from './process-numbers.ts'
import { renderResults } from './results.ts'
import { runNoiseVectors, runWycheproof } from './vectors.ts'

const IDS = ['A1', 'A2', 'A3', 'A4', 'A5', 'A6', 'A7', 'A8', 'A9', 'A11', 'A14']
const HELP = `Usage: npm run nightly [-- OPTIONS]

Runs vectors, the hostile peers in their nightly form, a load on a real broker, random kills of real processes, the count
of nonces and the orders of boots, prints a row for each number and writes test/nightly/RESULTS.md. Takes root (programs of the VM run as another
user) and up to two hours on two cores. Ends with 0 only if every number held.

  --only LIST   of ${IDS.join(' ')}, with commas between; the file is not written then
  --percent N   1 to 100: so much of what is asked, to try it out; below 100 the file is not written
  --seed TEXT   make the same plays again (printed at the start)
  --resume      keep the rows of a run that was cut off at this commit, and go on with its seed
  --yes         install missing Debian packages without asking

Examples:
  npm run nightly
  npm run nightly -- --only A2,A11
  npm run nightly -- --percent 1 --seed 5f2a`

const { values } = readOptions('nightly', {
  options: {
    only: { type: 'string' },
    percent: { type: 'string', default: '100' },
    seed: { type: 'string' },
    resume: { type: 'boolean', default: false },
    yes: { type: 'boolean' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}
const only = values.only?.split(',') ?? IDS
const unknown = only.find(id => !IDS.includes(id))
if (unknown !== undefined) refuseOptions('nightly', `no number is called ${unknown}, only ${IDS.join(', ')}`)
const percent = readNumber('nightly', { option: '--percent', given: values.percent, least: 1, most: 100 })
const scale = percent / 100
const git = (...args: string[]) => execFileSync('git', args, { encoding: 'utf8' }).trim()
const changed = git('status', '--porcelain', '--untracked-files=no') !== ''
const commit = git('rev-parse', 'HEAD') + (changed ? ', with changes' : '')

/** what a run that is cut off leaves */
interface Rows {
  readonly commit: string
  readonly percent: number
  readonly seed: string
  readonly outcomes: readonly Outcome[]
}
const ROWS = new URL('../../build/nightly.json', import.meta.url)
const left = values.resume && existsSync(ROWS) ? (JSON.parse(readFileSync(ROWS, 'utf8')) as Rows) : undefined
const before = left?.commit === commit && left.percent === percent ? left : undefined
if (values.resume && !before) refuseOptions('nightly', 'there is nothing to go on with at this commit')

const seed = before?.seed ?? values.seed ?? randomBytes(4).toString('hex')
const outcomes: Outcome[] = [...(before?.outcomes ?? [])]
const startMs = performance.now()

async function tell(number: string, run: () => Promise<Outcome>): Promise<void> {
  if (!only.includes(number)) return
  const kept = before?.outcomes.find(({ id }) => id === number)
  const outcome = kept ?? (await run())
  if (!kept) {
    outcomes.push(outcome)
    mkdirSync(new URL('.', ROWS), { recursive: true })
    writeFileSync(ROWS, JSON.stringify({ commit, percent, seed, outcomes } satisfies Rows))
  }
  const { id, what, asked, done, held, seconds, note } = outcome
  console.log(
    `${id.padEnd(4)}${held ? 'held  ' : 'FAILED'}  ${what}: ${done} (asked: ${asked}), ${seconds.toFixed(0)} s; ${note}`,
  )
}

console.log(`seed ${seed}`)
await tell('A1', runNoiseVectors)
await tell('A2', runWycheproof)
await tell('A11', () => runNonceNumber(scale))
await tell('A14', () => runBootOrders(scale))
for (const id of HOSTILE) await tell(id, () => runHostileNumber(id, seed, scale))
// alone, since they measure time
await tell('A8', () => runLoadNumber(scale))
await tell('A9', () => runKillNumber(seed, scale))

const earlier = (before?.outcomes ?? []).reduce((sum, outcome) => sum + outcome.seconds, 0)
const seconds = earlier + (performance.now() - startMs) / 1_000
const held = outcomes.every(outcome => outcome.held)
console.log(
  `${outcomes.filter(outcome => outcome.held).length} of ${outcomes.length} numbers held, in ${(seconds / 60).toFixed(0)} minutes`,
)
if (only.length === IDS.length && percent === 100) {
  const results = renderResults(outcomes, {
    date: new Date().toISOString().slice(0, 10),
    commit,
    seed,
    seconds,
    cores: cpus().length,
    node: process.version,
  })
  writeFileSync(new URL('RESULTS.md', import.meta.url), results)
}
process.exit(held ? 0 : 1)
