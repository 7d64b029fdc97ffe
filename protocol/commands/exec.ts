/**
 * exec: runs a program, no shell. Data from the client is stdin; `eof` or the client's END closes it, and signals may follow `eof`; data to the client is stdout
 * on lane 0 and stderr on lane 1. Exactly one `exit`, after the last output, then END. SPEC §9.2
 */
import { encodeText } from '../core/bytes.ts'
import { LIMITS } from '../core/limits.ts'
import { object, text, uint, z } from '../core/schema.ts'
import { defineCommand } from './command.ts'

export const STDOUT = 0
export const STDERR = 1

const withoutNul = (item: string) => !item.includes('\0')

const SIGNALS = [
  'SIGHUP',
  'SIGINT',
  'SIGQUIT',
  'SIGKILL',
  'SIGTERM',
  'SIGUSR1',
  'SIGUSR2',
  'SIGSTOP',
  'SIGCONT',
] as const

export const exitBody = object({
  /** exit status, or null when a signal ended it */
  code: uint(255).nullable(),
  /** name of the signal that ended it, or null */
  signal: text(16).nullable(),
})

export const exec = defineCommand({
  name: 'exec',
  permission: 'exec',
  params: object({
    argv: z
      .array(z.string().refine(withoutNul, 'must not hold NUL'))
      .min(1)
      .max(LIMITS.argvItems)
      .refine(
        items => items.reduce((sum, item) => sum + encodeText(item).length, 0) <= LIMITS.argvBytes,
        `needs at most ${LIMITS.argvBytes} bytes in all`,
      ),
    /** added to the environment of the user's login; names as in the shell */
    env: z
      .record(
        z.string().regex(/^[A-Za-z_][A-Za-z0-9_]{0,63}$/),
        z.string().max(4096).refine(withoutNul, 'must not hold NUL'),
      )
      .optional(),
    /** absolute; the user's home when absent */
    cwd: z.string().startsWith('/').max(4096).refine(withoutNul, 'must not hold NUL').optional(),
    /** the caller's own account when absent */
    user: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
      .optional(),
  }),
  names: { user: 'user' },
  ready: object({}),
  toAgent: { signal: object({ name: z.enum(SIGNALS) }), eof: object({}) },
  toClient: { exit: exitBody },
  takesSecret: false,
  kept: 'wait',
})
