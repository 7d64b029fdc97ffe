/** grant-revoke: the agent refuses a grantee's grants up to a serial from now on, and ends the grantee's sessions. SPEC §9.6 */
import { bytes, object, uint } from '../core/schema.ts'
import { defineCommand } from './command.ts'

export const grantRevoke = defineCommand({
  name: 'grant-revoke',
  permission: 'users',
  /** Ed25519 key, and the highest serial that is refused */
  params: object({ grantee: bytes(32), serial: uint(Number.MAX_SAFE_INTEGER - 1) }),
  names: { serial: null },
  ready: object({}),
  toAgent: {},
  toClient: {},
  takesSecret: false,
})
