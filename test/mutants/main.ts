/** npm run mutants: changes protocol/channel in every small way, one at a time, and counts the changes that a test notices. */
import { spawnSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { readOptions, refuseOptions } from '../support/options.ts'

/** Files whose tests are vectors by the hundred are run by themselves. */
const SETS = {
  close: ['protocol/channel/*.ts', '!protocol/channel/patterns.ts', '!protocol/channel/noble-algorithms.ts'],
  patterns: ['protocol/channel/patterns.ts', 'protocol/channel/noble-algorithms.ts'],
} as const
type SetName = keyof typeof SETS
const NAMES = Object.keys(SETS) as SetName[]
const LEAST_SCORE = 90
const ROOT = new URL('../..', import.meta.url).pathname

const HELP = `Usage: npm run mutants [-- OPTIONS]

Mutates protocol/channel with StrykerJS and runs its closest tests against each mutant. Prints the score and every mutant that
no test noticed; those that change nothing are explained in test/mutants/explained.json. Ends with 0 only if at least ${LEAST_SCORE} %
were noticed and the rest is explained. Takes an hour and more; what was run before and has not changed is not run again.

  --set NAME   only one: ${NAMES.join(', ')}
  --report     only the figures of the runs before, as JSON in build/mutants

Examples:
  npm run mutants
  npm run mutants -- --set patterns`

const { values } = readOptions('mutants', {
  options: {
    set: { type: 'string' },
    report: { type: 'boolean', default: false },
    help: { type: 'boolean', short: 'h' },
  },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}
const chosen = NAMES.filter(name => values.set === undefined || name === values.set)
if (chosen.length === 0) refuseOptions('mutants', `no set is called ${values.set}, only ${NAMES.join(', ')}`)

interface Mutant {
  readonly mutatorName: string
  readonly replacement?: string
  readonly status: string
  readonly location: { readonly start: { readonly line: number } }
}
interface Report {
  readonly files: Readonly<Record<string, { readonly source: string; readonly mutants: readonly Mutant[] }>>
}
/** A mutant that no test can notice, by the line it is in, and why. */
interface Explained {
  readonly file: string
  readonly line: string
  readonly replacement: string
  readonly why: string
}

function run(name: SetName): void {
  const stryker = `${ROOT}node_modules/@stryker-mutator/core/bin/stryker.js`
  const files = ['--incrementalFile', `build/mutants/${name}-incremental.json`, '--mutate', SETS[name].join(',')]
  const { status } = spawnSync(process.execPath, [stryker, 'run', 'test/mutants/stryker.config.json', ...files], {
    cwd: ROOT,
    stdio: 'inherit',
    env: { ...process.env, MUTANTS: name },
  })
  if (status !== 0) process.exit(status ?? 1)
}

const NOTICED = ['Killed', 'Timeout', 'RuntimeError']
const MISSED = ['Survived', 'NoCoverage']
const explained = JSON.parse(readFileSync(new URL('explained.json', import.meta.url), 'utf8')) as Explained[]
let [noticed, missed, unexplained] = [0, 0, 0]

/** Counts the mutants of a set and prints those that were missed. */
function count(name: SetName): void {
  // what Stryker keeps for its next run is its report of this one
  const report = JSON.parse(readFileSync(`${ROOT}build/mutants/${name}-incremental.json`, 'utf8')) as Report
  for (const [file, { source, mutants }] of Object.entries(report.files)) {
    const lines = source.split('\n')
    for (const { mutatorName, replacement = '', status, location } of mutants) {
      if (NOTICED.includes(status)) noticed++
      if (!MISSED.includes(status)) continue
      missed++
      const line = (lines[location.start.line - 1] ?? '').trim()
      const known = explained.find(item => item.file === file && item.line === line && item.replacement === replacement)
      if (!known) unexplained++
      console.log(`${file}:${location.start.line} ${mutatorName}, ${status}: ${line}  →  ${replacement}`)
      console.log(`  ${known?.why ?? 'NOT EXPLAINED'}`)
    }
  }
}

for (const name of chosen) if (!values.report) run(name)
for (const name of chosen) count(name)
const score = (100 * noticed) / Math.max(1, noticed + missed)
console.log(`${noticed} of ${noticed + missed} mutants noticed (${score.toFixed(1)} %), ${unexplained} not explained`)
process.exit(score >= LEAST_SCORE && unexplained === 0 ? 0 : 1)
