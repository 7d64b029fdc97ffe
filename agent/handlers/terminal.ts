/** terminal: the user's login shell on a terminal of its own. SPEC §9.3 */
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { keepingOf } from './kept-programs.ts'
import { startFor, supervise } from './supervise.ts'

export const terminal: Handlers<Guest>['terminal'] = async (call, guest) => {
  const { cols, rows, term = 'xterm-256color', user: name } = call.params
  const user = guest.accounts.userOf(call.rights, name)
  const keep = keepingOf(call, 'terminal')
  const login = { argv: [user.shell, '-l'], user, env: { TERM: term } }
  const program = await startFor(call, guest, login, { size: { cols, rows }, ...(keep && { keep }) })
  await supervise(call, program)
}
