/** A command in a stream, with its shapes checked both ways: `Call` is the agent's half, `ClientCall` the client's. SPEC §9 */
import type {
  Command,
  Params,
  Ready,
  ToAgentBody,
  ToAgentName,
  ToClientBody,
  ToClientName,
} from './commands/command.ts'
import type { ErrorCode } from './core/errors.ts'

export type FromClient<C extends Command> =
  | { readonly type: 'data'; readonly bytes: Uint8Array }
  | {
      [N in ToAgentName<C>]: { readonly type: 'message'; readonly name: N; readonly body: ToAgentBody<C, N> }
    }[ToAgentName<C>]

export type FromAgent<C extends Command> =
  | { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
  | {
      [N in ToClientName<C>]: { readonly type: 'message'; readonly name: N; readonly body: ToClientBody<C, N> }
    }[ToClientName<C>]

/** The agent's half: what a handler gets. */
export interface Call<C extends Command> {
  readonly params: Params<C>
  /** aborted when the client is gone or reset the stream */
  readonly signal: AbortSignal
  /** Accepts; must come before anything else is sent. */
  accept(body: Ready<C>): void
  post<N extends ToClientName<C>>(name: N, body: ToClientBody<C, N>): void
  /** Sends data; resolves once the client's window took it. Lane 0 unless given. */
  write(bytes: Uint8Array, lane?: number): Promise<void>
  /** What the client sends, until it half-closes; credit goes back as items are taken. */
  received(): AsyncGenerator<FromClient<C>, void, undefined>
  /** The one secret of a command that takes one. The handler wipes it. */
  secret(): Promise<Uint8Array>
}

/** The client's half. */
export interface ClientCall<C extends Command> {
  /** what ACCEPT carried */
  readonly ready: Ready<C>
  readonly signal: AbortSignal
  post<N extends ToAgentName<C>>(name: N, body: ToAgentBody<C, N>): void
  write(bytes: Uint8Array): Promise<void>
  /** Sends the secret in a record of its own and wipes it. */
  sendSecret(secret: Uint8Array): Promise<void>
  end(): void
  reset(code: ErrorCode): void
  received(): AsyncGenerator<FromAgent<C>, void, undefined>
}
