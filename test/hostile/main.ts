/** npm run hostile: every attack of a relay, counted, as a table or JSON. Ends with 0 only if all was noticed. */
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { readOptions } from '../support/options.ts'
import { ATTACKS } from './attacks.ts'
import { runFlips } from './flips.ts'
import { fuzz, sound } from './fuzz.ts'
import { runModel } from './model-steps.ts'
import { PARSERS } from './parsers.ts'
import { runChannelRecords, runRecords } from './records.ts'
import { holds, runAttack, type Tally } from './tally.ts'

const HELP = `Usage: npm run hostile [-- OPTIONS]

Stands between a real client session and a real agent session as a hostile relay, and counts what they notice; then
feeds bent input to every parser. Ends with 0 only if every attack was noticed, no byte of plaintext was delivered after
it, no parser crashed, took more than 50 ms or kept more than 32 MiB, and random sessions did what their model says.

  --nightly     1,000 plays of each attack, 1,000,000 records, 10,000 random sessions and 1,325,000 inputs, 1,000,000
                of them frames, messages, tickets, certificates and control JSON, instead of 100, 100,000, 1,000 and 60,000
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
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}

const { nightly, json, only } = values
const seed = values.seed ?? Buffer.from(nativeSuite.randomBytes(4)).toString('hex')
const [plays, records, sessions] = nightly ? [1_000, 1_000_000, 10_000] : [100, 100_000, 1_000]
const widths = [46, 11, 11, 24, 20] as const
const line = (cells: readonly string[]) =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[i] ?? 0))).join('')
const tallies: Tally[] = []

function tell(tally: Tally): void {
  if (tally.tried === 0 && !tally.attack.includes(only)) return
  tallies.push(tally)
  if (json) return
  if (tallies.length === 1) console.log(line(['attack', 'tried', 'detected', 'plaintext bytes after']))
  const numbers = [tally.tried, tally.detected, tally.bytesAfter].map(number => number.toLocaleString('en-GB'))
  console.log(line([tally.attack, ...numbers]) + (holds(tally) ? '' : `  FAILED, seeds ${tally.failures.join(' ')}`))
}

if (!json) console.log(`seed ${seed}`)
if ('flip a bit of handshake message'.includes(only)) {
  for (const tally of await runFlips({ seed })) tell(tally)
  // the slower suite refuses in the same code; a bit of each byte shows it
  for (const tally of await runFlips({ seed, suite: nobleSuite, stride: nightly ? 3 : 41 })) {
    tell({ ...tally, attack: `${tally.attack} (noble)` })
  }
}
if ('mutate records of a channel'.includes(only)) {
  tell(await runChannelRecords(nativeSuite, records / 100, seed))
  tell({
    ...(await runChannelRecords(nobleSuite, records / 1_000, seed)),
    attack: 'mutate records of a channel (noble)',
  })
}
if ('mutate transport records'.includes(only)) {
  tell({ ...runRecords(nativeSuite, records, seed), attack: 'mutate transport records' })
  tell({ ...runRecords(nobleSuite, records / 10, seed), attack: 'mutate transport records (noble)' })
}
for (const row of ATTACKS) if (row.name.includes(only)) tell(await runAttack(row, plays, seed))

const parsers = PARSERS.filter(parser => `fuzz ${parser.name}`.includes(only))
if (!json && parsers.length > 0) console.log(`\n${line(['parser', 'inputs', 'read', 'findings', 'slowest, growth'])}`)
const fuzzed = parsers.map(parser => {
  const result = fuzz(parser, parser.inputs[nightly ? 'nightly' : 'short'], seed)
  const numbers = [result.tried, result.accepted, result.findings.length].map(number => number.toLocaleString('en-GB'))
  const cost = `${result.slowestMs.toFixed(1)} ms, ${(result.growthBytes / 2 ** 20).toFixed(1)} MiB`
  if (!json) console.log(line([result.parser, ...numbers, cost]) + (sound(result) ? '' : '  FAILED'))
  if (!json)
    for (const { what, why, input } of result.findings) console.log(`  ${what}: ${why}: ${input.slice(0, 200)}`)
  return result
})

const modelled = 'random sessions'.includes(only)
const broken = modelled
  ? await runModel(sessions, Number.parseInt(seed, 36) & 0x7fffffff).then(
      counts => {
        if (!json) console.log(`\nrandom sessions: ${JSON.stringify(counts)}`)
        return null
      },
      (error: Error) => error.message,
    )
  : null
if (broken && !json) console.log(`\nrandom sessions: ${broken}`)

const all = [...tallies.map(holds), ...fuzzed.map(sound)]
const held = all.every(Boolean) && broken === null
const none = all.length === 0 && !modelled
const sum = (counts: readonly { tried: number }[]) =>
  counts.reduce((total, { tried }) => total + tried, 0).toLocaleString('en-GB')
const ran = [
  tallies.length > 0 && `${sum(tallies)} attacks, all noticed, 0 bytes after`,
  fuzzed.length > 0 && `${sum(fuzzed)} inputs, all read or refused`,
  modelled && `${sessions.toLocaleString('en-GB')} random sessions, all as modelled`,
]
if (json) console.log(JSON.stringify({ seed, nightly, held, tallies, fuzzed, broken }))
else if (none) console.log('Nothing is called so: check --only.')
else console.log(held ? `\n${ran.filter(Boolean).join('; ')}` : '\nNOT ALL HELD')
process.exitCode = none ? 2 : held ? 0 : 1
