/** An error as people or programs read it on stderr. */
import { ERRORS, type MortarError } from '../../protocol/core/errors.ts'
import { Unconfirmed } from '../errors/unconfirmed.ts'
import { printable } from '../vms/vm.ts'
import { adviceOn } from './advice.ts'
import type { Globals } from './context.ts'
import { toJson } from './output.ts'

/** `detail` may hold what broker or VM sent. What was wrong, with what, and what to do; one line of JSON for programs. */
export function tellError(error: MortarError, globals: Partial<Globals>): string {
  const { code, detail } = error
  const todo = adviceOn(error, globals)
  const { says } = ERRORS[code]
  const known = error instanceof Unconfirmed ? { known: error.known } : {}
  if (globals.json) return `${toJson({ error: { code, says, detail, todo, ...known } })}\n`
  return `mortar: ${says}${detail === '' ? '' : `: ${printable(detail)}`}\n  → ${printable(todo)}\n`
}
