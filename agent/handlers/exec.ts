/** exec: runs a program as a user, its three streams apart, its exit exactly once after the last output. SPEC §9.2 */
import type { Readable } from 'node:stream'
import type { Call } from '../../protocol/call.ts'
import { type exec as command, STDERR, STDOUT } from '../../protocol/commands/exec.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { resolveProgram } from '../guest/program.ts'
import type { Running } from '../guest/runner.ts'
import { homeOf, isDirectory } from '../guest/users.ts'
import { supervise } from './supervise.ts'

type ExecCall = Call<typeof command>

export const exec: Handlers<Guest>['exec'] = async (call, guest) => {
  const { params } = call
  const user = guest.accounts.userOf(call.rights, params.user)
  const cwd = params.cwd ?? homeOf(user)
  if (!isDirectory(cwd)) throw new MortarError('directory-unknown', cwd)
  const argv = resolveProgram(params.argv, user, cwd, params.env?.PATH)
  const running = await guest.runner.run({ argv, user, grantee: call.rights.grantee, cwd, env: params.env ?? {} })
  await supervise(call, running, {
    feed: () => feed(call, running),
    async output() {
      await Promise.all([copy(running.stdout, call, STDOUT), copy(running.stderr, call, STDERR)])
    },
  })
}

/** From the client to stdin and signals; a program that closed its stdin loses the rest, as in a pipe. */
async function feed(call: ExecCall, running: Running): Promise<void> {
  const { stdin } = running
  stdin.on('error', () => {})
  for await (const item of call.received()) {
    if (item.type === 'message' && item.name === 'signal') await running.signal(item.body.name)
    else if (item.type === 'message') stdin.end()
    else if (stdin.writable) await new Promise<void>(resolve => stdin.write(item.bytes, () => resolve()))
  }
  stdin.end()
}

/** The pipe is read only as fast as the client takes it. */
async function copy(output: Readable, call: ExecCall, lane: number): Promise<void> {
  for await (const chunk of output) await call.write(chunk as Uint8Array, lane)
}
