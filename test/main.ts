/** Runs the rings of tests and ends with one line that counts them: `N passed, N failed` (`, N skipped`). */
import { parseArgs } from 'node:util'
import { RINGS } from '../vitest.config.ts'
import { CountingReporter } from './support/counting-reporter.ts'
import { runRings } from './support/run-rings.ts'

/** rings that run only when they are named */
const APART: readonly string[] = ['attacks']

const HELP = `Usage: npm test [-- OPTIONS] [FILTER …]

  --ring NAME   only this ring (may be repeated): ${RINGS.join(' ')}; without it all but ${APART.join(' ')}
  --yes         install missing Debian packages without asking; needed where there is no terminal to ask on
  FILTER        only test files whose path contains it

Examples:
  npm test                              all but the attacks that this machine can run
  npm test -- --ring unit --ring rules  the quick rings
  npm test -- --ring guest lifecycle    one guest test file`

function commandLine() {
  try {
    const given = parseArgs({
      allowPositionals: true,
      options: {
        ring: { type: 'string', multiple: true },
        yes: { type: 'boolean' },
        help: { type: 'boolean', short: 'h' },
      },
    })
    const unknown = given.values.ring?.find(ring => !RINGS.includes(ring))
    if (unknown !== undefined) throw new Error(`there is no ring ${unknown}, only ${RINGS.join(', ')}`)
    return given
  } catch (thrown) {
    console.error(`npm test: ${(thrown as Error).message}\n  → Run: npm test -- --help`)
    return process.exit(2)
  }
}

const { values, positionals } = commandLine()
if (values.help) {
  console.log(HELP)
  process.exit(0)
}

const reporter = new CountingReporter()
await runRings(values.ring ?? RINGS.filter(ring => !APART.includes(ring)), positionals, reporter)
const { passed, failed, skipped } = reporter.counts
if (passed + failed + skipped === 0) console.log('No test was run: check --ring and the filter.')
console.log(reporter.summary)
process.exit(reporter.exitCode)
