/** The file that the nightly run leaves in the repository. */
import type { Outcome } from './outcome.ts'

export interface RunFacts {
  /** YYYY-MM-DD */
  readonly date: string
  readonly commit: string
  readonly seed: string
  readonly seconds: number
  readonly cores: number
  readonly node: string
}

const cell = (text: string) => text.replaceAll('|', '\\|').replaceAll(/\s+/g, ' ')

export function renderResults(outcomes: readonly Outcome[], facts: RunFacts): string {
  const sorted = outcomes.toSorted((a, b) => Number(a.id.slice(1)) - Number(b.id.slice(1)))
  const rows = sorted.map(
    ({ id, what, asked, done, held, seconds, note }) =>
      `| ${[id, what, asked, done, held ? 'yes' : 'NO', seconds.toFixed(0), note].map(cell).join(' | ')} |`,
  )
  return `# Results of the nightly run

Written by \`npm run nightly\`, whole, with nothing left out: ${facts.date}, commit ${facts.commit}, seed ${facts.seed},
Node ${facts.node}, ${facts.cores} cores, ${(facts.seconds / 60).toFixed(0)} minutes. A3 to A7 were shared by two processes.

| number | what | asked | done | held | seconds | beside |
|---|---|---|---|---|---|---|
${rows.join('\n')}

A10, what is left in memory, is in \`test/processes/secret-memory.test.ts\` and \`test/guest/secrecy.test.ts\`; A12, mutants of the
channel, is run by \`npm run mutants\` (\`test/mutants/RESULTS.md\`); A13, forged headers of drives, is in \`test/guest/drive-header.test.ts\`.
`
}
