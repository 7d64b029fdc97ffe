/** npm run attacks: every attack against real processes and a real guest, and a table of attack × tries × held. */
import type { TestCase } from 'vitest/node'
import { CountingReporter } from '../support/counting-reporter.ts'
import { readOptions } from '../support/options.ts'
import { runRings } from '../support/run-rings.ts'
import './attack.ts'

const HELP = `Usage: npm run attacks [-- OPTIONS] [FILTER …]

Plays every attack of SECURITY.md that has a test in test/attacks: against real processes, and in a real VM. Prints attack,
tries and how many of them held; ends with 0 only if all held.

  --yes     install missing Debian packages without asking; needed where there is no terminal to ask on
  FILTER    only files of test/attacks whose path contains it

Examples:
  npm run attacks
  npm run attacks -- network`

const WIDTHS = [100, 7, 7] as const

class AttackReporter extends CountingReporter {
  readonly rows: { attack: string; tries: number; held: number }[] = []

  override onTestCaseResult(test: TestCase): void {
    super.onTestCaseResult(test)
    const counts = test.meta().attack ?? { tries: 1, held: test.result().state === 'passed' ? 1 : 0 }
    if (test.result().state !== 'skipped') this.rows.push({ attack: test.fullName, ...counts })
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
const line = (attack: string, tries: string, held: string) =>
  `${attack.padEnd(WIDTHS[0])}${tries.padStart(WIDTHS[1])}${held.padStart(WIDTHS[2])}`
console.log(`\n${line('attack', 'tries', 'held')}`)
for (const { attack, tries, held } of reporter.rows) {
  console.log(line(attack, String(tries), String(held)) + (held === tries ? '' : '  NOT HELD'))
}
const { passed, failed } = reporter.counts
if (passed + failed === 0) console.log('No attack was tried: check the filter.')
console.log(reporter.summary)
process.exit(reporter.exitCode)
