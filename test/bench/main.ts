/** npm run bench: what Mortar does against what people would use instead, in one run. Ends with 0 only if every gate is met. */
import { readNumber, readOptions, refuseOptions } from '../support/options.ts'
import { type Bench, type Judged, judge } from './benches.ts'
import { channel } from './channel.ts'
import { exec } from './exec.ts'
import { execInVm } from './exec-in-vm.ts'

const BENCHES: readonly Bench[] = [channel, exec, execInVm]
const NAMES = [...new Set(BENCHES.map(bench => bench.name))]
const MOST_ROUNDS = 1_000

const HELP = `Usage: npm run bench [-- OPTIONS]

Compares in one run, in alternating rounds; a ratio has a gate, below which this ends with 1, and an aim.

  --only NAME     only this bench (may be repeated): ${NAMES.join(' ')}
  --vm            boots a VM too, for the benches that have a part there: exec
  --rounds N      counted rounds, 1 to ${MOST_ROUNDS.toLocaleString('en-GB')} (default 5)
  --yes           with --vm: install missing Debian packages without asking
  --json          one line of JSON instead of the table

Examples:
  npm run bench
  npm run bench -- --only channel --rounds 3
  npm run bench -- --vm --only exec`

const { values } = readOptions('bench', {
  options: {
    only: { type: 'string', multiple: true, default: [] },
    rounds: { type: 'string', default: '5' },
    vm: { type: 'boolean', default: false },
    yes: { type: 'boolean' },
    json: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}
const rounds = readNumber('bench', { option: '--rounds', given: values.rounds, least: 1, most: MOST_ROUNDS })
const unknown = values.only.filter(name => !NAMES.includes(name))
if (unknown.length > 0) refuseOptions('bench', `no bench is called ${unknown.join(', ')}, only ${NAMES.join(', ')}`)

const results: Judged[] = []
for (const bench of BENCHES) {
  if (values.only.length > 0 && !values.only.includes(bench.name)) continue
  if (bench.vm && !values.vm) continue
  if (!values.json) console.log(`${bench.name}: ${bench.says}, ${rounds} rounds`)
  const measured = await bench.measure(rounds, text => {
    if (!values.json && process.stdout.isTTY) console.log(`  ${text}`)
  })
  const judged = bench.goals.map(goal => judge(bench, goal, measured))
  if (!values.json) for (const result of judged) console.log(lineOf(result))
  results.push(...judged)
}

if (values.json) console.log(JSON.stringify({ rounds, results }))
process.exitCode = results.some(({ verdict }) => verdict === 'missed') ? 1 : 0

function lineOf(result: Judged): string {
  const { id, what, gate, aim, ratio, ratios, verdict, why } = result
  if (verdict === 'skipped') return `${id}  ${what}\n    not measured: ${why}`
  const spread = `${Math.min(...ratios).toFixed(2)} to ${Math.max(...ratios).toFixed(2)}`
  const said = { aim: 'aim met', gate: 'gate met', missed: 'GATE MISSED', told: '' }[verdict]
  const goal = gate === null ? 'no gate' : `gate ${gate}  aim ${aim}  ${why ? 'not judged' : said}`
  return `${id}  ${what}\n    ratio ${ratio.toFixed(2)} (${spread})  ${goal}   ${figuresOf(result)}${why && `\n    ${why}`}`
}

/** ours and the peer's own, with the best of all samples where there is one. */
function figuresOf({ unit, oursMedian, peerMedian, oursBest, peerBest }: Judged): string {
  const digits = unit === 'ms' ? 1 : 0
  const figure = (median: number, best: number) =>
    median.toFixed(digits) + (Number.isNaN(best) ? '' : ` (${best.toFixed(digits)})`)
  return `${figure(oursMedian, oursBest)} against ${figure(peerMedian, peerBest)} ${unit}`
}
