/** Runs rings of tests to their end, for the commands that print what came of them. */
import { startVitest } from 'vitest/node'
import type { CountingReporter } from './counting-reporter.ts'

/** `filters`: only test files whose path contains one of them. */
export async function runRings(
  rings: readonly string[],
  filters: readonly string[],
  reporter: CountingReporter,
): Promise<void> {
  const vitest = await startVitest('test', [...filters], {
    run: true,
    watch: false,
    project: [...rings],
    reporters: [reporter],
  })
  await vitest.close()
}
