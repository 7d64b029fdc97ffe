/** A program at a runner that runs for a call: ended with the call, however that ends. SPEC §8, §9.2 */
import type { FromClient } from '../../protocol/call.ts'
import type { exec } from '../../protocol/commands/exec.ts'
import type { terminal } from '../../protocol/commands/terminal.ts'
import type { HeldLog } from '../../protocol/kept/held-log.ts'
import type { RunnerProgram } from '../guest/runner-program.ts'

interface CallOfProgram {
  readonly signal: AbortSignal
  received(): AsyncGenerator<FromClient<typeof exec> | FromClient<typeof terminal>, void, undefined>
  follow(log: HeldLog): Promise<void>
}

/**
 * Lets both ends talk until the program's end was told; the program ends with the call. Fails with what reset the stream,
 * with runner-lost, or with what the client did wrong: it is told that, and not the end which its program met for it.
 */
export async function supervise(call: CallOfProgram, program: RunnerProgram): Promise<void> {
  const broken = Promise.withResolvers<never>()
  broken.promise.catch(() => undefined)
  const kill = () => program.kill()
  call.signal.addEventListener('abort', kill, { once: true })
  try {
    call.signal.throwIfAborted()
    const told = call.follow(program)
    // ends with the stream; when the program ends first there is nothing left to wait for
    feed(call, program).catch(thrown => {
      // what reset the stream, or lost it, is told to those who write to it
      if (!call.signal.aborted) broken.reject(thrown)
    })
    await Promise.race([told, broken.promise])
  } finally {
    call.signal.removeEventListener('abort', kill)
    program.forget()
  }
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
