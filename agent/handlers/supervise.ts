/** A program that runs for a call: accepted once it runs, and ended with the stream, however that ends. SPEC §8, §9.2 */
import type { Exit } from '../guest/runner.ts'

interface CallOfProgram {
  readonly signal: AbortSignal
  accept(body: Record<string, never>): void
  post(name: 'exit', body: Exit): void
}

interface Conversation {
  /** Takes to the program what the client sends. */
  feed(): Promise<void>
  /** Takes to the client what the program says; resolves after the last of it. */
  output(): Promise<void>
}

/**
 * Lets both ends talk, says how the program ended, and ends what it started. Fails with what reset the stream, or what
 * `feed` or `output` fails with: a client that breaks the protocol is told that, and not the end which its program met for it.
 */
export async function supervise(
  call: CallOfProgram,
  running: { kill(): void; readonly exited: Promise<Exit> },
  { feed, output }: Conversation,
): Promise<void> {
  const kill = () => running.kill()
  const broken = Promise.withResolvers<never>()
  call.signal.addEventListener('abort', kill, { once: true })
  try {
    call.signal.throwIfAborted()
    call.accept({})
    // ends with the stream; when the program ends first there is nothing left to wait for
    feed().catch(thrown => {
      // what reset the stream, or lost it, is told to those who write to it
      if (!call.signal.aborted) broken.reject(thrown)
    })
    // not after the output: that may wait for a client which takes none
    call.post('exit', await Promise.race([output().then(() => running.exited), broken.promise]))
  } finally {
    call.signal.removeEventListener('abort', kill)
    kill()
  }
}
