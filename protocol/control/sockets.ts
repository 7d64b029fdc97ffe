/** WebSocket entries and how they close: the agent's control socket, and both ends' data sockets with a join token as subprotocol. SPEC §4 */
import { type ErrorCode, isErrorCode, MortarError } from '../core/errors.ts'

export const AGENT_PATH = '/v1/agent'
export const JOIN_PATH = '/v1/join'
export const JOIN_PROTOCOL = 'mortar.join.v1'
/** second subprotocol offered: this and the token */
export const JOIN_TOKEN_PREFIX = 'mortar.token.'
/** the close code that carries one of our error codes as its reason */
const CLOSE_WITH_CODE = 4000

/** what the broker says as its reason, or an agent through it; all else would be a relay's invention */
const REASONS: readonly string[] = [
  'vm-unreachable',
  'ssh-not-authorised',
  'limit-exceeded',
  'going-away',
  'connection-lost',
] satisfies ErrorCode[]

/** What a close of the broker's means: null for an orderly end, the error otherwise. */
export function closeFailure(code: number, reason: string): MortarError | null {
  if (code === 1000) return null
  if (code === CLOSE_WITH_CODE && isErrorCode(reason) && REASONS.includes(reason)) return new MortarError(reason)
  return new MortarError('connection-lost', `the broker closed the connection (${code})`)
}
