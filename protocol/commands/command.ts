/** What a command is: a name, the permission it needs, and the shapes of what is said in its stream. SPEC §9 */
import type { z } from 'zod'
import type { Permission } from '../control/roles.ts'

/** When nobody is there to read and the spool is full: the handler's write waits, or the oldest is dropped. */
export type WhenFull = 'wait' | 'drop'

/**
 * What a parameter names that rights may bound: a drive by its id, or by its serial; a user in the VM; where a tunnel leads,
 * as `host:port` or as a host beside a port. null: nothing of the kind, whatever the parameter is called.
 */
export type Named = 'drive' | 'serial' | 'user' | 'target' | 'host' | 'port' | null

type Messages = Readonly<Record<string, z.ZodType>>

export interface Command {
  /** also the name of the agent's handler, of its file and of its section in SPEC §9 */
  readonly name: string
  /** the right that the caller needs at the agent; absent means denied */
  readonly permission: Permission
  /** what OPEN carries */
  readonly params: z.ZodType
  /** what the parameters name, by parameter; authorise() asks for each. Messages name nothing: they are not asked about. SPEC §8.1 */
  readonly names: Readonly<Record<string, Named>>
  /** what ACCEPT carries */
  readonly ready: z.ZodType
  /** messages from client to agent and back, by name */
  readonly toAgent: Messages
  readonly toClient: Messages
  /** true when the client sends exactly one secret in the stream */
  readonly takesSecret: boolean
  /** whether a call can outlive its session, and what its output does when the spool is full; absent: it cannot. SPEC §8.2 */
  readonly kept?: WhenFull
  /** whether these parameters ask for a call that waits without a limit of time for its client. SPEC §8.2 */
  readonly lasts?: (params: never) => boolean
  /** messages to the agent of which only the last matters while they wait for a session */
  readonly latest?: readonly string[]
}

/** Keeps the literal types of a command, so that handler and caller are checked against its shapes. */
export function defineCommand<const C extends Command>(command: C): C {
  return command
}

export type Params<C extends Command> = z.output<C['params']>
export type Ready<C extends Command> = z.output<C['ready']>
export type ToAgentName<C extends Command> = keyof C['toAgent'] & string
export type ToClientName<C extends Command> = keyof C['toClient'] & string
export type ToAgentBody<C extends Command, N extends ToAgentName<C>> = z.output<C['toAgent'][N]>
export type ToClientBody<C extends Command, N extends ToClientName<C>> = z.output<C['toClient'][N]>
