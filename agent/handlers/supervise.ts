/** A program that runs for a call: accepted once it runs, and ended with the stream, however that ends. */
interface CallOfProgram {
  readonly signal: AbortSignal
  accept(body: Record<string, never>): void
}

/** Runs `serve` to its end and then ends the program and all it started. Fails with what reset the stream, or what `serve` fails with. */
export async function supervise(
  call: CallOfProgram,
  running: { kill(): void },
  serve: (kill: () => void) => Promise<void>,
): Promise<void> {
  const kill = () => running.kill()
  call.signal.addEventListener('abort', kill, { once: true })
  try {
    call.signal.throwIfAborted()
    call.accept({})
    await serve(kill)
  } finally {
    call.signal.removeEventListener('abort', kill)
    kill()
  }
}
