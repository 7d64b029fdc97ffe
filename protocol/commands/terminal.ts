/** terminal: a login shell on a PTY. Data both ways on lane 0. Exactly one `exit`, then END. SPEC §9.3 */
import { object, uint, z } from '../core/schema.ts'
import { defineCommand } from './command.ts'
import { exitBody } from './exec.ts'

const size = { cols: uint(1000).min(1), rows: uint(1000).min(1) }

export const terminal = defineCommand({
  name: 'terminal',
  permission: 'terminal',
  params: object({
    ...size,
    user: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
      .optional(),
    /** value of TERM */
    term: z
      .string()
      .regex(/^[a-z0-9.+-]{1,32}$/i)
      .optional(),
  }),
  names: { user: 'user' },
  ready: object({}),
  toAgent: { resize: object(size) },
  toClient: { exit: exitBody },
  takesSecret: false,
  kept: 'drop',
  latest: ['resize'],
})
