/**
 * Grants at the agent, for the owner alone: grant-revoke takes back all that was ever signed to a grantee, grant-list says whose
 * grants this VM has taken and taken back. SPEC §9.6
 */
import { GRANTED_ROLES, PERMISSIONS } from '../control/roles.ts'
import { bytes, object, uint, z } from '../core/schema.ts'
import { defineCommand } from './command.ts'

/** what a grantee's next grant must name: the last revocation of that grantee in this VM. SPEC §2.7 */
const mark = bytes(16)

export const grantRevoke = defineCommand({
  name: 'grant-revoke',
  permission: 'users',
  /** Ed25519 key */
  params: object({ grantee: bytes(32) }),
  names: {},
  ready: object({
    mark,
    /** highest serial that the VM had taken since the revocation before; null: none */
    serial: uint().nullable(),
    /** how many of the grantee's sessions were open, and have ended */
    sessions: uint(1_000),
    /** whether all that the grantee had started in the VM has ended; false: some of it may go on */
    programsEnded: z.boolean(),
  }),
  toAgent: {},
  toClient: {},
  takesSecret: false,
})

/** a grant that is in force in a VM: the lowest serial that is still taken, and what it gives */
export const grantInForce = object({
  serial: uint(),
  role: z.enum(GRANTED_ROLES),
  permissions: z.array(z.enum(PERMISSIONS)).max(PERMISSIONS.length),
  /** seconds since 1970: its end, and when the VM took it, by the guest's clock */
  expires: uint(),
  since: uint(),
})

/** one grantee, as the VM knows it */
const known = object({
  grantee: bytes(32),
  mark: mark.nullable(),
  /** null: none was taken since the last revocation */
  taken: grantInForce.nullable(),
  /** open now */
  sessions: uint(1_000),
})

export const grantList = defineCommand({
  name: 'grant-list',
  permission: 'users',
  params: object({}),
  names: {},
  ready: object({}),
  toAgent: {},
  /** as many as are needed; the last one is followed by END */
  toClient: { known: z.array(known).max(32) },
  takesSecret: false,
})
