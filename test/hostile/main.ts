/** npm run hostile: every attack of a relay, counted, as a table or JSON. Ends with 0 only if all was noticed. */
import { parseArgs } from 'node:util'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { ATTACKS, holds, runAttack, type Tally } from './attacks.ts'
import { runFlips } from './flips.ts'
import { runRecords } from './records.ts'

const HELP = `Usage: npm run hostile [-- OPTIONS]

Stands between a real client session and a real agent session as a hostile relay, and counts what they notice.
Ends with 0 only if every attack was noticed and no byte of plaintext was delivered after it.

  --nightly     1,000 plays of each attack and 1,000,000 records instead of 100 and 100,000
  --seed TEXT   make the same plays again (printed at the start)
  --only TEXT   only attacks whose name contains it
  --json        one line of JSON instead of the table

Examples:
  npm run hostile
  npm run hostile -- --nightly --json
  npm run hostile -- --only reorder --seed 5f2a`

const { values } = parseArgs({
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
const [plays, records] = nightly ? [1_000, 1_000_000] : [100, 100_000]
const widths = [46, 11, 11, 24] as const
const line = (cells: readonly string[]) =>
  cells.map((cell, i) => (i === 0 ? cell.padEnd(widths[0]) : cell.padStart(widths[i] ?? 0))).join('')
const tallies: Tally[] = []

function tell(tally: Tally): void {
  if (tally.tried === 0 && !tally.attack.includes(only)) return
  tallies.push(tally)
  if (json) return
  const numbers = [tally.tried, tally.detected, tally.bytesAfter].map(number => number.toLocaleString('en-GB'))
  console.log(line([tally.attack, ...numbers]) + (holds(tally) ? '' : `  FAILED, seeds ${tally.failures.join(' ')}`))
}

if (!json) console.log(`seed ${seed}\n${line(['attack', 'tried', 'detected', 'plaintext bytes after'])}`)
if ('flip a bit of handshake message'.includes(only)) {
  for (const tally of await runFlips({ seed })) tell(tally)
  // the slower suite refuses in the same code; a bit of each byte shows it
  for (const tally of await runFlips({ seed, suite: nobleSuite, stride: nightly ? 3 : 41 })) {
    tell({ ...tally, attack: `${tally.attack} (noble)` })
  }
}
if ('mutate transport records'.includes(only)) {
  tell({ ...runRecords(nativeSuite, records, seed), attack: 'mutate transport records' })
  tell({ ...runRecords(nobleSuite, records / 10, seed), attack: 'mutate transport records (noble)' })
}
for (const row of ATTACKS) if (row.name.includes(only)) tell(await runAttack(row, plays, seed))

const held = tallies.length > 0 && tallies.every(holds)
const tried = tallies.reduce((sum, tally) => sum + tally.tried, 0)
if (json) console.log(JSON.stringify({ seed, nightly, held, tallies }))
else if (tallies.length === 0) console.log('No attack is called so: check --only.')
else console.log(held ? `${tried.toLocaleString('en-GB')} attacks, all noticed, 0 bytes after` : 'NOT ALL WAS NOTICED')
process.exitCode = held ? 0 : 1
