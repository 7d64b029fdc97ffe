/** npm run hostile: every attack of a relay, counted, as a table or JSON. Ends with 0 only if all was noticed. */
import { randomBytes } from 'node:crypto'
import { readNumber, readOptions } from '../support/options.ts'
import { type FuzzResult, sound } from './fuzz.ts'
import { type JobResult, jobsOf, NIGHTLY, piecesOf, SHORT } from './jobs.ts'
import { runPieces } from './pool.ts'
import { holds, type Tally } from './tally.ts'

const HELP = `Usage: npm run hostile [-- OPTIONS]

Stands between a real client session and a real agent session as a hostile relay, and counts what they notice; then
feeds bent input to every parser, and poses as either end with all that a broker stores. Ends with 0 only if every attack was noticed, no byte of plaintext was delivered after
it, no parser crashed, took more than 50 ms or kept more than 32 MiB, and random sessions did what their model says.

  --nightly     1,000 plays of each attack, 10,000,000 records, 100,000 random sessions and 10,000,000 inputs, instead of
                100, 100,000, 1,000 and 60,000
  --workers N   processes that share the work, 0 to 16 (default: 2 with --nightly, else 0: all in this one)
  --seed TEXT   make the same plays again (printed at the start)
  --only TEXT   only attacks and parsers whose name contains it
  --json        one line of JSON instead of the table

Examples:
  npm run hostile
  npm run hostile -- --nightly --json
  npm run hostile -- --only reorder --seed 5f2a`

const { values } = readOptions('hostile', {
  options: {
    nightly: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
    seed: { type: 'string' },
    only: { type: 'string', default: '' },
    workers: { type: 'string' },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}

const { nightly, json, only } = values
const workers =
  values.workers === undefined
    ? nightly
      ? 2
      : 0
    : readNumber('hostile', { option: '--workers', given: values.workers, least: 0, most: 16 })
const seed = values.seed ?? randomBytes(4).toString('hex')
const form = nightly ? NIGHTLY : SHORT
const widths = [74, 11, 11, 24, 20] as const
const line = (cells: readonly string[]) =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[i] ?? 0))).join('')
const inDigits = (number: number) => number.toLocaleString('en-GB')
const say = (text: string) => {
  if (!json) console.log(text)
}
const tallies: Tally[] = []
const fuzzed: FuzzResult[] = []
let modelled: Extract<JobResult, { kind: 'modelled' }> | undefined

function tell(result: JobResult): void {
  if (result.kind === 'tallies') {
    for (const tally of result.tallies) {
      if (tallies.length === 0) say(line(['attack', 'tried', 'detected', 'plaintext bytes after']))
      tallies.push(tally)
      const numbers = [tally.tried, tally.detected, tally.bytesAfter].map(inDigits)
      say(line([tally.attack, ...numbers]) + (holds(tally) ? '' : `  FAILED, seeds ${tally.failures.join(' ')}`))
    }
  } else if (result.kind === 'fuzzed') {
    if (fuzzed.length === 0) say(`\n${line(['parser', 'inputs', 'read', 'findings', 'slowest, growth'])}`)
    const { parser, tried, accepted, findings, slowestMs, growthBytes } = result.fuzzed
    fuzzed.push(result.fuzzed)
    const cost = `${slowestMs.toFixed(1)} ms, ${(growthBytes / 2 ** 20).toFixed(1)} MiB`
    const numbers = [tried, accepted, findings.length].map(inDigits)
    say(line([parser, ...numbers, cost]) + (sound(result.fuzzed) ? '' : '  FAILED'))
    for (const { what, why, input } of findings) say(`  ${what}: ${why}: ${input.slice(0, 200)}`)
  } else {
    modelled = result
    say(`\nrandom sessions: ${result.broken ?? JSON.stringify(result.counts)}`)
  }
}

say(`seed ${seed}`)
await runPieces(piecesOf(jobsOf(form, only), seed, Math.max(1, workers)), workers, ({ result }) => tell(result))

const all = [...tallies.map(holds), ...fuzzed.map(sound)]
const broken = modelled?.broken ?? null
const held = all.every(Boolean) && broken === null
const none = all.length === 0 && !modelled
const sum = (counts: readonly { tried: number }[]) => inDigits(counts.reduce((total, { tried }) => total + tried, 0))
const ran = [
  tallies.length > 0 && `${sum(tallies)} attacks, all noticed, 0 bytes after`,
  fuzzed.length > 0 && `${sum(fuzzed)} inputs, all read or refused`,
  modelled && `${inDigits(form.sessions)} random sessions, all as modelled`,
]
if (json) console.log(JSON.stringify({ seed, nightly, held, tallies, fuzzed, broken }))
else if (none) console.log('Nothing is called so: check --only.')
else console.log(held ? `\n${ran.filter(Boolean).join('; ')}` : '\nNOT ALL HELD')
process.exitCode = none ? 2 : held ? 0 : 1
