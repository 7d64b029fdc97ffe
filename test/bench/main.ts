/** npm run bench: what Mortar does against what people would use instead, in one run. Ends with 0 only if every gate is met. */
import { readNumber, readOptions, refuseOptions } from '../support/options.ts'
import { type Bench, type Judged, judge } from './benches.ts'
import { channel } from './channel.ts'

const BENCHES: readonly Bench[] = [channel]
const MOST_ROUNDS = 1_000

const HELP = `Usage: npm run bench [-- OPTIONS]

Compares in one run, in alternating rounds; a ratio has a gate, below which this ends with 1, and an aim.

  --only NAME     only this bench (may be repeated): ${BENCHES.map(bench => bench.name).join(' ')}
  --rounds N      counted rounds, 1 to ${MOST_ROUNDS.toLocaleString('en-GB')} (default 5)
  --json          one line of JSON instead of the table

Examples:
  npm run bench
  npm run bench -- --only channel --rounds 3`

const { values } = readOptions('bench', {
  options: {
    only: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string', default: '5' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}
const rounds = readNumber('bench', { option: '--rounds', given: values.rounds, least: 1, most: MOST_ROUNDS })
const names = BENCHES.map(bench => bench.name)
const unknown = values.only.filter(name => !names.includes(name))
if (unknown.length > 0) refuseOptions('bench', `no bench is called ${unknown.join(', ')}, only ${names.join(', ')}`)

const results: Judged[] = []
for (const bench of BENCHES.filter(({ name }) => values.only.length === 0 || values.only.includes(name))) {
  if (!values.json) console.log(`${bench.name}: ${bench.says}, ${rounds} rounds`)
  const measured = await bench.measure(rounds, text => {
    if (!values.json && process.stdout.isTTY) console.log(`  ${text}`)
  })
  results.push(...bench.goals.map(goal => judge(bench, goal, measured)))
}

if (values.json) console.log(JSON.stringify({ rounds, results }))
else for (const result of results) console.log(lineOf(result))
process.exitCode = results.some(({ verdict }) => verdict === 'missed') ? 1 : 0

function lineOf(result: Judged): string {
  const { id, what, gate, aim, ratio, ratios, verdict, why, unit, oursMedian, peerMedian } = result
  if (verdict === 'skipped') return `${id}  ${what}\n    not measured: ${why}`
  const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`
  const said = { aim: 'aim met', gate: 'gate met', missed: 'GATE MISSED' }[verdict]
  return `${id}  ${what}\n    ratio ${ratio.toFixed(2)} (${spread})  gate ${gate}  aim ${aim}  ${said}   ${oursMedian.toFixed(0)} against ${peerMedian.toFixed(0)} ${unit}`
}
