/** Taking back what a grantee was given and ending what the grantee started: every step is tried, whatever the others come to. SPEC §9.6 */
import { failure, type Log } from '../process/log.ts'

/** The steps, in their order: what ends calls comes first, what ends programs last. */
export interface WithdrawalSteps {
  readonly calls: (grantee: string) => void
  readonly groups: (grantee: string) => void
  readonly ssh: (grantee: string) => void
  /** resolves when nothing runs any more */
  readonly programs: (grantee: string) => Promise<void>
}

/**
 * Resolves with whether it is certain that nothing of the grantee's goes on. Never fails. All but the programs is over when it
 * returns, so that what a new grant gives is not taken back with what the old one gave.
 */
export async function withdraw(steps: WithdrawalSteps, grantee: string, log: Log): Promise<boolean> {
  let isCertain = true
  const failed = (thrown: unknown) => {
    isCertain = false
    log('grant.not-withdrawn', failure(thrown))
  }
  for (const step of [steps.calls, steps.groups, steps.ssh]) {
    try {
      step(grantee)
    } catch (thrown) {
      failed(thrown)
    }
  }
  await steps.programs(grantee).catch(failed)
  return isCertain
}
