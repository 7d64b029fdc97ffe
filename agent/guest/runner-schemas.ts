/** What a runner may say, checked: it is its user's, who may have taken it over. The table is agent/runner/messages.ts. */
import { object, text, uint, z } from '../../protocol/core/schema.ts'
import { type FromRunner, PROGRAMS, START_FAILURES } from '../runner/messages.ts'

/** positions have six bytes */
const position = uint(2 ** 48 - 1)
const program = uint(2 ** 32 - 1)
/** characters of a memo: what an OPEN holds at most, in base64url, and more than that */
export const MEMO_CHARACTERS = 32_768

const fromRunnerSchema = z.discriminatedUnion('type', [
  object({ type: z.literal('hello'), version: uint(), programs: uint(PROGRAMS) }),
  object({
    type: z.literal('held'),
    program,
    memo: text(MEMO_CHARACTERS),
    start: position,
    end: position,
    taken: position,
    over: z.boolean(),
  }),
  object({ type: z.literal('started'), program }),
  object({ type: z.literal('failed'), program, code: z.enum(START_FAILURES) }),
  object({ type: z.literal('from'), program, position }),
  object({
    type: z.literal('exit'),
    program,
    position,
    code: uint(255).nullable(),
    signal: z
      .string()
      .regex(/^SIG[A-Z0-9+-]{1,13}$/)
      .nullable(),
  }),
  object({ type: z.literal('over'), program }),
  object({ type: z.literal('taken'), program, position }),
  object({ type: z.literal('pong') }),
])

/** Throws for what is no message of a runner. */
export function parseFromRunner(json: string): FromRunner {
  return fromRunnerSchema.parse(JSON.parse(json))
}
