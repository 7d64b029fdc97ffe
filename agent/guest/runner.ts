/** Running programs as users of the guest: what handlers and SSH ask for, and what they get. */
import type { Readable, Writable } from 'node:stream'
import type { Exit } from '../runner/output-log.ts'
import type { RunnerProgram } from './runner-program.ts'
import type { ToolResult } from './tool.ts'
import type { User } from './users.ts'

export type { Exit }

export interface Program {
  /** as its caller gave it: only the account itself looks for it */
  readonly argv: readonly string[]
  readonly user: User
  /** whose it is: the grantee's key (base64url), or null for the owner; what ends with the grant */
  readonly grantee: string | null
  /** absolute; absent: the user's home, or / where there is none */
  readonly cwd?: string | undefined
  /** added to the environment of the user's login */
  readonly env: Readonly<Record<string, string>>
}

export interface TerminalSize {
  readonly cols: number
  readonly rows: number
}

/** How a call is kept beyond this agent. */
export interface Keeping {
  /** what a later agent needs to know of it */
  readonly memo: Uint8Array
  readonly whenFull: 'wait' | 'drop'
  /** stays until its end was fetched, with what its children write later */
  readonly detached: boolean
}

export interface Running {
  readonly stdin: Writable
  readonly stdout: Readable
  /** to be read, or resumed: what it says shares its room with stdout */
  readonly stderr: Readable
  /** How the program ended; what it left behind goes on. Fails with runner-lost. */
  readonly exited: Promise<Exit>
  /** To the program; what a keyboard sends goes to its process group. Resolves once it is sent. */
  signal(name: string): Promise<void>
  /** Ends the program and what shares its process group or session. May be repeated. */
  kill(): void
}

export interface RunningTerminal {
  /** Calls back for each piece of output, waiting for the promise before the next; resolves at the end of the output. */
  output(take: (bytes: Uint8Array) => Promise<void>): Promise<void>
  /** Resolves once the terminal took the bytes. */
  write(bytes: Uint8Array): Promise<void>
  resize(size: TerminalSize): void
  readonly exited: Promise<Exit>
  /** Hangs up. May be repeated. */
  kill(): void
}

export interface Runner {
  /**
   * Starts a program; resolves once it runs. Whoever asked forgets it. Fails with exec-not-found, exec-failed,
   * directory-unknown, limit-exceeded, runner-lost.
   */
  start(program: Program, how?: { size?: TerminalSize; keep?: Keeping }): Promise<RunnerProgram>
  /** The same with streams: they end with it. */
  run(program: Program): Promise<Running>
  /** Runs a program on a terminal of its own. */
  terminal(program: Program, size: TerminalSize): Promise<RunningTerminal>
  /** Runs a system tool as root outside the agent's sandbox, to its end. */
  asRoot(argv: readonly string[]): Promise<ToolResult>
  /** Makes ready for programs of that person as that user, so that the first one does not wait. May be repeated; never fails. */
  prepare(grantee: string | null, user: User): Promise<void>
  /**
   * Ends everything that a grantee has started, by whichever way. Resolves when nothing of it runs any more; fails with
   * timeout when that is not known.
   */
  end(grantee: string): Promise<void>
}

/** The environment of a login, without what the caller adds. */
export function loginEnvironment(user: User, path: string): Record<string, string> {
  return {
    HOME: user.home,
    LOGNAME: user.name,
    USER: user.name,
    SHELL: user.shell,
    PATH: path,
    LANG: 'C.UTF-8',
  }
}
