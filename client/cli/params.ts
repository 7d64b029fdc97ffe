/** Parameters of a command, checked before they are sent, so that what is wrong is told in the words of the command line. */
import { MortarError } from '../../protocol/core/errors.ts'
import type { z } from '../../protocol/core/schema.ts'

/** who commands run as when nobody is named */
export const DEFAULT_USER = 'your own account'

/** parameter → what it needs, after the option or operand that gives it */
const NEEDS: Readonly<Record<string, string>> = {
  cwd: '--cwd needs an absolute folder',
  user: '--user needs the name of a user',
  env: '--env needs NAME=VALUE with a name as in a shell, and at most 4096 characters',
  argv: 'the program and its arguments are too many or too long',
}

/** Fails with usage, naming the option. */
export function requireValid<S extends z.ZodType>(schema: S, params: z.output<S>): z.output<S> {
  const checked = schema.safeParse(params)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]
  const [name = '', key] = issue?.path ?? []
  const value = (params as Readonly<Record<string, unknown>>)[String(name)]
  const given = typeof value === 'string' ? value : key
  const needs = NEEDS[String(name)] ?? `${String(name)}: ${issue?.message}`
  throw new MortarError('usage', typeof given === 'string' ? `${needs}, not "${given}"` : needs, {
    cause: checked.error,
  })
}
