/** Taking back what a grantee was given and ending what the grantee started: every step is tried, whatever the others come to. SPEC §9.6 */
import { failure, type Log } from './log.ts'

/** The steps, in their order: what ends calls comes first, what ends programs last. */
export interface WithdrawalSteps {
  readonly calls: (grantee: string) => void
  readonly groups: (grantee: string) => void
  readonly ssh: (grantee: string) => void
  /** resolves when nothing runs any more */
  readonly programs: (grantee: string) => Promise<void>
}

/** Resolves with whether it is certain that nothing of the grantee's goes on. Never fails. */
export async function withdraw(steps: WithdrawalSteps, grantee: string, log: Log): Promise<boolean> {
  let isCertain = true
  for (const step of [steps.calls, steps.groups, steps.ssh, steps.programs]) {
    try {
      await step(grantee)
    } catch (thrown) {
      isCertain = false
      log('grant.not-withdrawn', failure(thrown))
    }
  }
  return isCertain
}
