/** exec-list: the programs of the caller that wait for their client, or run for one. SPEC §9.2 */
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'

/** bytes of all arguments in one answer, which has to fit a message; a long command line is cut */
const ARGUMENT_BYTES = Math.floor(LIMITS.messageBytes / LIMITS.keptCallsEach / 2)

export const execList: Handlers<Guest>['exec-list'] = async (call, guest) => {
  await guest.kept.found(call.rights.grantee)
  const programs = guest.kept
    .list(call.rights.grantee)
    .filter(({ command }) => command.name === 'exec')
    .map(({ id, params, lasts, isDone }) => ({ id, argv: cut(params as Params), detached: lasts, over: isDone }))
  call.accept({ programs })
}

/** as they were checked when the call began */
type Params = { readonly argv: readonly string[] }

/** The first arguments, whole, as far as there is room; at least a piece of the first. */
function cut({ argv }: Params): string[] {
  const shown: string[] = []
  let left = ARGUMENT_BYTES
  for (const item of argv) {
    left -= Buffer.byteLength(item) + 3
    if (left < 0) break
    shown.push(item)
  }
  return shown.length > 0 ? shown : [(argv[0] ?? '').slice(0, ARGUMENT_BYTES / 4)]
}
