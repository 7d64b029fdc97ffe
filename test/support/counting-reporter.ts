/** Prints each test by ring and name as it ends, failures with their cause and once more at the end, and counts; errors outside a test count as failures. */
import type { Reporter, SerializedError, TestCase, TestModule } from 'vitest/node'

const MARKS = { passed: '✓', failed: '✗', skipped: '–', pending: '…' } as const

export class CountingReporter implements Reporter {
  readonly counts = { passed: 0, failed: 0, skipped: 0 }
  readonly #failures: { where: string; errors: readonly Partial<SerializedError>[] }[] = []

  /** The last line that a run prints: `N passed, N failed`, and what was skipped. */
  get summary(): string {
    const { passed, failed, skipped } = this.counts
    return `${passed} passed, ${failed} failed${skipped > 0 ? `, ${skipped} skipped` : ''}`
  }

  /** 0 when something ran and nothing failed. */
  get exitCode(): 0 | 1 {
    return this.counts.failed > 0 || this.counts.passed === 0 ? 1 : 0
  }

  onTestModuleStart(module: TestModule): void {
    console.log(nameOf(module))
  }

  onTestCaseResult(test: TestCase): void {
    const { state, errors } = test.result()
    if (state !== 'pending') this.counts[state]++
    const seconds = (test.diagnostic()?.duration ?? 0) / 1000
    console.log(`  ${MARKS[state]} ${test.fullName}${seconds >= 2 ? ` (${seconds.toFixed(1)} s)` : ''}`)
    for (const error of errors ?? []) printError(error)
    if (state === 'failed') this.#failures.push({ where: `${nameOf(test.module)} > ${test.fullName}`, errors })
  }

  onTestModuleEnd(module: TestModule): void {
    for (const error of module.errors()) this.#fail(nameOf(module), error)
    for (const suite of module.children.allSuites()) {
      for (const error of suite.errors()) this.#fail(`${nameOf(module)} > ${suite.fullName}`, error)
    }
  }

  onTestRunEnd(_modules: readonly TestModule[], unhandled: readonly SerializedError[]): void {
    for (const error of unhandled) this.#fail('outside any test', error)
    if (this.#failures.length > 0) console.log('\nFailed:')
    for (const { where, errors } of this.#failures) {
      console.log(`  ${MARKS.failed} ${where}`)
      for (const error of errors) printError(error)
    }
  }

  #fail(where: string, error: SerializedError): void {
    this.counts.failed++
    console.log(`  ${MARKS.failed} ${where}`)
    printError(error)
    this.#failures.push({ where, errors: [error] })
  }
}

function nameOf(module: TestModule): string {
  return `${module.project.name}: ${module.relativeModuleId}`
}

function printError(error: Partial<SerializedError>): void {
  const text = [error.message, error.diff, error.stack?.split('\n').slice(0, 6).join('\n')].filter(Boolean).join('\n')
  console.log(text.replace(/^/gm, '      '))
}
