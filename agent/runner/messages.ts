/**
 * What agent and runner say to each other over a local socket, one agent at a time. Both are the same program in two roles,
 * of one version or, after an update, of two: the first message of each side says which version of this table it speaks.
 *
 * On the socket lie frames: length (4 bytes, big-endian, of what follows), kind (1 byte), then
 *   kind 0  a message of the tables below, JSON
 *   kind 1  data: program (4 bytes) ‖ position (6 bytes) ‖ lane (1 byte) ‖ bytes
 *
 * Positions are those of SPEC §8.2: each byte of data counts one, the exit counts one; of the input each byte and each message.
 * The runner believes the agent, which is root. The agent believes nothing (agent/guest/runner-schemas.ts).
 */

export const RUNNER_VERSION = 1
/** bytes behind a frame's length */
export const FRAME_BYTES = 131_072
/** bytes of data in one frame */
export const PIECE_BYTES = 65_536
/** credit that a runner has for a program's output before the agent has taken it: a piece costs its bytes and PIECE_COST */
export const CREDIT_BYTES = 262_144
export const PIECE_COST = 64
/** programs that a runner holds at most, those that ended and were not fetched included */
export const PROGRAMS = 128
/** ms that the other side may be silent when asked: a runner that hangs is ended */
export const SILENCE_MS = 30_000

export interface Size {
  readonly cols: number
  readonly rows: number
}

/** What a runner is told to start. */
export interface Start {
  readonly argv: readonly string[]
  /** the whole environment */
  readonly env: Readonly<Record<string, string>>
  /** null: the home, or / where there is none */
  readonly cwd: string | null
  readonly home: string
  /** of its terminal; null: it gets pipes */
  readonly size: Size | null
  /** what a later agent needs to know of the call, base64url; null: the program ends with this agent */
  readonly memo: string | null
  /** when nobody reads and so many bytes wait: whether the program waits, or the oldest is dropped */
  readonly whenFull: 'wait' | 'drop'
  readonly spoolBytes: number
  /** what was read stays, as long as there is room, and what its children write after its end is kept too */
  readonly detached: boolean
}

export type ToRunner =
  | { readonly type: 'hello'; readonly version: number }
  | ({ readonly type: 'start'; readonly program: number } & Start)
  /** sends the output from a position on, for so much credit until more comes */
  | { readonly type: 'read'; readonly program: number; readonly from: number; readonly credit: number }
  | { readonly type: 'credit'; readonly program: number; readonly credit: number }
  /** nobody reads at the moment */
  | { readonly type: 'leave'; readonly program: number }
  /** the client has read all before that position */
  | { readonly type: 'release'; readonly program: number; readonly to: number }
  | { readonly type: 'eof'; readonly program: number }
  | { readonly type: 'signal'; readonly program: number; readonly name: string }
  | ({ readonly type: 'resize'; readonly program: number } & Size)
  /** ends the program with its process group and session; a terminal is hung up */
  | { readonly type: 'kill'; readonly program: number }
  /** the call is over: its output is not needed any more */
  | { readonly type: 'forget'; readonly program: number }
  | { readonly type: 'ping' }

/** A program that a runner holds, as it tells a new agent. */
export interface HeldState {
  readonly program: number
  readonly memo: string
  /** positions of the first thing that is held of the output, and behind the last */
  readonly start: number
  readonly end: number
  /** position up to which it has taken the input */
  readonly taken: number
  /** it has ended */
  readonly over: boolean
}

export type FromRunner =
  /** the answer to `hello`; as many `held` follow as it holds programs for another agent */
  | { readonly type: 'hello'; readonly version: number; readonly programs: number }
  | ({ readonly type: 'held' } & HeldState)
  | { readonly type: 'started'; readonly program: number }
  | { readonly type: 'failed'; readonly program: number; readonly code: StartFailure }
  /** the answer to `read`: where it begins, which is later when the oldest was dropped */
  | { readonly type: 'from'; readonly program: number; readonly position: number }
  /** the last thing of the output, in its place among the data */
  | {
      readonly type: 'exit'
      readonly program: number
      readonly position: number
      readonly code: number | null
      readonly signal: string | null
    }
  /** it has ended, whether or not its output was read */
  | { readonly type: 'over'; readonly program: number }
  /** the program, or its pipe, took the input up to there */
  | { readonly type: 'taken'; readonly program: number; readonly position: number }
  | { readonly type: 'pong' }

export const START_FAILURES = ['exec-not-found', 'exec-failed', 'directory-unknown', 'limit-exceeded'] as const
export type StartFailure = (typeof START_FAILURES)[number]

/** Whether a terminal would send the signal to the whole foreground job: a shell waits for its child otherwise. */
export function isForAll(signal: string): boolean {
  return signal === 'SIGINT' || signal === 'SIGQUIT'
}
