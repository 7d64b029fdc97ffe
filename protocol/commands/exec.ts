/**
 * exec: runs a program, no shell. Data from the client is stdin; `eof` or the client's END closes it, and signals may follow `eof`; data to the client is stdout
 * on lane 0 and stderr on lane 1. Exactly one `exit`, after the last output, then END. SPEC §9.2
 */
import { encodeText } from '../core/bytes.ts'
import { LIMITS } from '../core/limits.ts'
import { bytes, object, text, uint, z } from '../core/schema.ts'
import { type Command, defineCommand } from './command.ts'

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
    /** the agent's default user when absent */
    user: z
      .string()
      .regex(/^[a-z_][a-z0-9_-]{0,31}$/)
      .optional(),
    /** of a kept call only: it reads nothing, and waits for its client without a limit of time */
    detach: z.literal(true).optional(),
  }),
  names: { user: 'user' },
  ready: object({}),
  toAgent: { signal: object({ name: z.enum(SIGNALS) }), eof: object({}) },
  toClient: { exit: exitBody },
  takesSecret: false,
  kept: 'wait',
  lasts: (params: { detach?: true | undefined }) => params.detach === true,
})

/** The same for who comes for a detached program: of its output the oldest may be gone. SPEC §9.2 */
export const detachedExec = { ...exec, kept: 'drop' } as const satisfies Command

export const execList = defineCommand({
  name: 'exec-list',
  permission: 'exec',
  params: object({}),
  names: {},
  ready: object({
    programs: z
      .array(
        object({
          /** of its kept call */
          id: bytes(16),
          argv: z.array(z.string()).min(1).max(LIMITS.argvItems),
          detached: z.boolean(),
          /** it has ended; its output and how it ended can still be fetched */
          over: z.boolean(),
        }),
      )
      .max(LIMITS.keptCallsEach),
  }),
  toAgent: {},
  toClient: {},
  takesSecret: false,
})
