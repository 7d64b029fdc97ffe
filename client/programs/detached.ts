/** Programs that nobody waits for: started, listed, read and ended later, from any session of the same user. SPEC §9.2 */
import type { Ready } from '../../protocol/commands/command.ts'
import { detachedExec, exec, execList, STDERR } from '../../protocol/commands/exec.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { Host } from '../host/host.ts'
import type { ExecParams, Exit } from './exec.ts'

export interface DetachedStreams {
  onOutput(bytes: Uint8Array, from: 'stdout' | 'stderr'): void | Promise<void>
  /** so many bytes of the oldest output are gone */
  onGap(byteCount: number): void | Promise<void>
}

/**
 * Starts a program; resolves with its id, 16 bytes, once it runs. It is left alone once the session is closed, and until
 * then waits when its output fills the stream, which nobody reads. Fails as runProgram() does.
 */
export async function startDetached(session: ClientSession, host: Host, params: ExecParams): Promise<Uint8Array> {
  const id = host.suite.randomBytes(16)
  const call = new KeptClientCall({
    command: exec,
    params: { ...params, detach: true },
    id,
    clock: host.clock,
    onLost() {},
    onOver() {},
  })
  await session.attach(call)
  await call.call
  return id
}

/** Reads what it wrote from the first that is held, and on until it ends. Fails with call-unknown, runner-lost. */
export async function readDetached(
  session: ClientSession,
  host: Host,
  id: Uint8Array,
  { onOutput, onGap }: DetachedStreams,
): Promise<Exit> {
  const call = await takeUp(session, host, id)
  let exit: Exit | undefined
  for await (const item of call.received()) {
    if (item.type === 'message') exit = item.body
    else if (item.type === 'gap') await onGap(item.count)
    else await onOutput(item.bytes, item.lane === STDERR ? 'stderr' : 'stdout')
  }
  if (!exit) throw new MortarError('truncated', 'the program ended without saying how')
  return exit
}

/** Ends a program, and forgets what it wrote. Resolves once the VM no longer holds it. Fails with call-unknown. */
export async function endDetached(session: ClientSession, host: Host, id: Uint8Array): Promise<void> {
  const call = await takeUp(session, host, id)
  call.reset('going-away')
  const isSame = (other: Uint8Array) => other.every((byte, i) => byte === id[i])
  const { programs } = await listDetached(session)
  if (programs.some(program => isSame(program.id))) throw new MortarError('timeout', 'the VM still holds it')
}

export async function listDetached(session: ClientSession): Promise<Ready<typeof execList>> {
  const call = await session.open(execList, {})
  for await (const _ of call.received());
  return call.ready
}

async function takeUp(session: ClientSession, { clock }: Host, id: Uint8Array) {
  const call = new KeptClientCall({
    command: detachedExec,
    // the agent has them
    params: { argv: [''] },
    id,
    clock,
    begun: true,
    onLost: () => call.fail(new MortarError('connection-lost')),
    onOver() {},
  })
  await session.attach(call)
  return call.call
}
