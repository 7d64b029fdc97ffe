/** What handlers get of the guest: its facts, its people's accounts, a way to run programs as users, drives and SSH. */
import type { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import type { Accounts } from '../accounts/accounts.ts'
import type { Grants } from '../grants/grants.ts'
import type { Log } from '../process/log.ts'
import type { Drives } from './drives.ts'
import type { Runner } from './runner.ts'
import type { SecretAttempts } from './secret-attempts.ts'
import type { SshAccess } from './ssh-access.ts'

export interface Guest {
  readonly accounts: Accounts
  readonly generation: number
  readonly runner: Runner
  readonly drives: Drives
  readonly secretAttempts: SecretAttempts
  readonly ssh: SshAccess
  readonly grants: Grants
  readonly kept: KeptCalls
  readonly log: Log
}
