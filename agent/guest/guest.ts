/** What handlers get of the guest: its configuration and facts, a way to run programs as its users, drives and SSH. */
import type { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import type { AgentConfig } from '../config.ts'
import type { Grants } from '../grants.ts'
import type { Log } from '../log.ts'
import type { Drives } from './drives.ts'
import type { Runner } from './runner.ts'
import type { SecretAttempts } from './secret-attempts.ts'
import type { SshAccess } from './ssh-access.ts'

export interface Guest {
  readonly config: AgentConfig
  readonly generation: number
  readonly runner: Runner
  readonly drives: Drives
  readonly secretAttempts: SecretAttempts
  readonly ssh: SshAccess
  readonly grants: Grants
  readonly kept: KeptCalls
  readonly log: Log
}
