/** npm run attacks: every attack against real processes and a real guest, and a table of attack × tries × held. */
import type { TestCase } from 'vitest/node'
import { CountingReporter } from '../support/counting-reporter.ts'
import { readOptions } from '../support/options.ts'
import { runRings } from '../support/run-rings.ts'
import './attack.ts'

const HELP = `Usage: npm run attacks [-- OPTIONS] [FILTER …]

Plays every attack of SECURITY.md that has a test in test/attacks: against real processes, and in a real VM. Prints attack,
tries and how many of them held; ends with 0 only if all held. One that could not be tried here is shown as skipped, and
counts as not held.

  --yes     install missing Debian packages without asking; needed where there is no terminal to ask on
  FILTER    only files of test/attacks whose path contains it

Examples:
  npm run attacks
  npm run attacks -- network`

const COUNT_WIDTH = 7

class AttackReporter extends CountingReporter {
  readonly rows: { attack: string; tries: number; held: number }[] = []

  override onTestCaseResult(test: TestCase): void {
    super.onTestCaseResult(test)
    const { state } = test.result()
    const untried = { tries: state === 'skipped' ? 0 : 1, held: state === 'passed' ? 1 : 0 }
    this.rows.push({ attack: test.fullName, ...(test.meta().attack ?? untried) })
  }

  override get exitCode(): 0 | 1 {
    return this.counts.skipped > 0 ? 1 : super.exitCode
  }
}

const { values, positionals } = readOptions('attacks', {
  allowPositionals: true,
  options: { yes: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } },
})
if (values.help) {
  console.log(HELP)
  process.exit(0)
}
const reporter = new AttackReporter()
await runRings(['attacks'], positionals, reporter)
const width = Math.max('attack'.length, ...reporter.rows.map(({ attack }) => attack.length))
const line = (attack: string, tries: string, held: string) =>
  `${attack.padEnd(width)}${tries.padStart(COUNT_WIDTH)}${held.padStart(COUNT_WIDTH)}`
console.log(`\n${line('attack', 'tries', 'held')}`)
for (const { attack, tries, held } of reporter.rows) {
  if (tries === 0) console.log(`${line(attack, '–', '–')}  skipped`)
  else console.log(line(attack, String(tries), String(held)) + (held === tries ? '' : '  NOT HELD'))
}
if (reporter.rows.length === 0) console.log('No attack was tried: check the filter.')
console.log(reporter.summary)
process.exit(reporter.exitCode)
