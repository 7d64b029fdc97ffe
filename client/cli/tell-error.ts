/** An error as people or programs read it on stderr. */
import { ERRORS, type MortarError } from '../../protocol/core/errors.ts'

/** What was wrong, with what, and what to do; one line of JSON for programs. */
export function tellError({ code, detail, todo }: MortarError, json: boolean): string {
  const { says } = ERRORS[code]
  if (json) return `${JSON.stringify({ error: { code, says, detail, todo } })}\n`
  return `mortar: ${says}${detail === '' ? '' : `: ${detail}`}\n  → ${todo}\n`
}
