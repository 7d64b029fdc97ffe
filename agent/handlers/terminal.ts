/** terminal: the user's login shell on a terminal of its own. SPEC §9.3 */
import type { Call } from '../../protocol/call.ts'
import type { terminal as command } from '../../protocol/commands/terminal.ts'
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { resolveProgram } from '../guest/program.ts'
import type { RunningTerminal } from '../guest/runner.ts'
import { homeOf } from '../guest/users.ts'
import { supervise } from './supervise.ts'

export const terminal: Handlers<Guest>['terminal'] = async (call, guest) => {
  const { cols, rows, term = 'xterm-256color' } = call.params
  const user = guest.accounts.userOf(call.rights, call.params.user)
  const cwd = homeOf(user)
  const argv = resolveProgram([user.shell, '-l'], user, cwd)
  const running = await guest.runner.terminal(
    { argv, user, grantee: call.rights.grantee, cwd, env: { TERM: term } },
    { cols, rows },
  )
  await supervise(call, running, {
    feed: () => feed(call, running),
    output: () => running.output(bytes => call.write(bytes)),
  })
}

/** Keys and sizes in the order they came. The client's end is a hang-up. */
async function feed(call: Call<typeof command>, running: RunningTerminal): Promise<void> {
  for await (const item of call.received()) {
    if (item.type === 'message') running.resize(item.body)
    else await running.write(item.bytes)
  }
  running.kill()
}
