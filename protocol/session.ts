/** TYPES FIRST (implementation follows): session = channel + mux + commands, one file for each end's entry. */
import type { Call, ClientCall } from './call.ts'
import type { Command, Params } from './commands/command.ts'
import type { COMMANDS, CommandName } from './commands/index.ts'
import type { MortarError } from './core/errors.ts'
import type { Transport } from './core/transport.ts'

/** The client's session. Obtained by openSession(). */
export interface ClientSession {
  /** Opens a stream for a command; resolves at ACCEPT, fails with the agent's code otherwise. */
  open<C extends Command>(command: C, params: Params<C>): Promise<ClientCall<C>>
  close(): void
  /** Resolves when the session ended; with the error unless it was closed in order. */
  readonly closed: Promise<MortarError | undefined>
}

/** One handler per command; a thrown MortarError becomes the reset code, anything else `internal`. The stream ends when it returns. */
export type Handlers<Guest> = {
  readonly [N in CommandName]: (call: Call<(typeof COMMANDS)[N]>, guest: Guest) => Promise<void>
}

export type { Transport }
