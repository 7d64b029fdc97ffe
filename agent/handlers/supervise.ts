/** A program at a runner that runs for a call: ended with the call, however that ends. SPEC §8, §9.2 */
import type { FromClient } from '../../protocol/call.ts'
import type { exec } from '../../protocol/commands/exec.ts'
import type { terminal } from '../../protocol/commands/terminal.ts'
import type { HeldLog } from '../../protocol/kept/held-log.ts'
import type { Rights } from '../../protocol/rights.ts'
import type { Guest } from '../guest/guest.ts'
import type { Keeping, Program, TerminalSize } from '../guest/runner.ts'
import type { RunnerProgram } from '../guest/runner-program.ts'
import { PROGRAMS } from '../runner/messages.ts'
import { Shares } from './shares.ts'

interface CallOfProgram {
  readonly signal: AbortSignal
  received(): AsyncGenerator<FromClient<typeof exec> | FromClient<typeof terminal>, void, undefined>
  follow(log: HeldLog): Promise<void>
}

/** programs that are being started, those too whose calls are gone: a runner may never answer */
const starting = new Shares(PROGRAMS, 'programs that are being started')

/**
 * Starts the program of a call; resolves once it runs. One that runs only when its call is gone is ended. Fails with what
 * the call failed with, with limit-exceeded, and as Runner.start() does.
 */
export async function startFor(
  call: { readonly signal: AbortSignal; readonly rights: Pick<Rights, 'grantee'> },
  { runner }: Pick<Guest, 'runner'>,
  program: Omit<Program, 'grantee'>,
  how: { size?: TerminalSize; keep?: Keeping },
): Promise<RunnerProgram> {
  const { grantee } = call.rights
  const started = starting.hold(runner, grantee, () => runner.start({ ...program, grantee }, how))
  const { gone, stop } = watch(call.signal)
  try {
    return await Promise.race([started, gone])
  } catch (thrown) {
    started.then(
      late => late.forget(),
      () => undefined,
    )
    throw thrown
  } finally {
    stop()
  }
}

/**
 * Lets both ends talk until the program's end was told; the program ends with the call. Fails with what reset the stream,
 * with runner-lost, or with what the client did wrong: it is told that, and not the end which its program met for it.
 */
export async function supervise(call: CallOfProgram, program: RunnerProgram): Promise<void> {
  const broken = Promise.withResolvers<never>()
  broken.promise.catch(() => undefined)
  const { gone, stop } = watch(call.signal)
  try {
    call.signal.throwIfAborted()
    const told = call.follow(program)
    // ends with the stream; when the program ends first there is nothing left to wait for
    feed(call, program).catch(thrown => {
      // what reset the stream, or lost it, is told to those who write to it
      if (!call.signal.aborted) broken.reject(thrown)
    })
    // a runner may neither end the program nor say so: who waits for that waits no longer than the call
    await Promise.race([told, broken.promise, gone])
  } finally {
    stop()
    program.forget()
  }
}

/** `gone` fails with the signal's reason when that aborts. */
function watch(signal: AbortSignal): { gone: Promise<never>; stop: () => void } {
  const { promise: gone, reject } = Promise.withResolvers<never>()
  gone.catch(() => undefined)
  const abort = () => reject(signal.reason)
  if (signal.aborted) abort()
  else signal.addEventListener('abort', abort, { once: true })
  return { gone, stop: () => signal.removeEventListener('abort', abort) }
}

/** From the client, in the order it came. The client's end is the end of the input; on a terminal a hang-up. */
async function feed(call: CallOfProgram, program: RunnerProgram): Promise<void> {
  for await (const item of call.received()) {
    if (item.type === 'data') await program.input(item)
    else if (item.name === 'eof') await program.input({ type: 'eof' })
    else if (item.name === 'signal') await program.input({ type: 'signal', name: item.body.name })
    else await program.input({ type: 'resize', ...item.body })
  }
  await program.input({ type: 'eof' })
}
