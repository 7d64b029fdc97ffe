/** terminal: the user's login shell on a terminal of its own. SPEC §9.3 */
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { findUser } from '../guest/users.ts'
import { keepingOf } from './kept-programs.ts'
import { supervise } from './supervise.ts'

export const terminal: Handlers<Guest>['terminal'] = async (call, guest) => {
  const { cols, rows, term = 'xterm-256color', user: name } = call.params
  const user = findUser(name ?? guest.config.defaultUser)
  const { grantee } = call.rights
  const keep = keepingOf(call, 'terminal')
  const program = await guest.runner.start(
    { argv: [user.shell, '-l'], user, grantee, env: { TERM: term } },
    { size: { cols, rows }, ...(keep && { keep }) },
  )
  await supervise(call, program)
}
