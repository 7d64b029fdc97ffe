/** An attack as a test: it is tried several times and has to fail each time. `npm run attacks` prints how often it was tried and held. */
import { test } from 'vitest'

declare module 'vitest' {
  interface TaskMeta {
    /** how often an attack was tried, and how often what it attacks held */
    attack?: { tries: number; held: number }
  }
}

export interface AttackOptions {
  /** how often it is tried, at least 1 */
  readonly tries: number
  /** ms for all tries together; the ring's limit when absent */
  readonly timeoutMs?: number
}

/**
 * Defines an attack. `attempt` gets the number of the try, from 0, and throws when the attack succeeded. The title says
 * what holds and is cited in SECURITY.md.
 */
export function attack(title: string, options: AttackOptions, attempt: (number: number) => Promise<void>): void {
  const { tries, timeoutMs } = options
  test(title, timeoutMs === undefined ? {} : { timeout: timeoutMs }, async ({ task }) => {
    const counts = { tries, held: 0 }
    task.meta.attack = counts
    for (let number = 0; number < tries; number++) {
      await attempt(number)
      counts.held++
    }
  })
}
