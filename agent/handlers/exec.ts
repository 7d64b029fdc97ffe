/** exec: runs a program as a user, its three streams apart, its exit exactly once after the last output. SPEC §9.2 */
import { MortarError } from '../../protocol/core/errors.ts'
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { keepingOf } from './kept-programs.ts'
import { startFor, supervise } from './supervise.ts'

export const exec: Handlers<Guest>['exec'] = async (call, guest) => {
  const { argv, cwd, env = {}, user: name } = call.params
  const user = guest.accounts.userOf(call.rights, name)
  if (call.params.detach && !call.keptAs) throw new MortarError('bad-request', 'only a kept call can be detached')
  const keep = keepingOf(call, 'exec')
  const program = await startFor(call, guest, { argv, user, cwd, env }, keep ? { keep } : {})
  await supervise(call, program)
}
