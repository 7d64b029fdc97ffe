/** Running programs as users of the guest: by PID 1 where systemd is, directly elsewhere. Both keep the same promises. */
import type { Readable, Writable } from 'node:stream'
import type { ToolResult } from './tool.ts'
import type { User } from './users.ts'

export interface Program {
  /** argv[0] is absolute */
  readonly argv: readonly string[]
  readonly user: User
  /** whose it is: the grantee's key (base64url), or null for the owner; what ends with the grant */
  readonly grantee: string | null
  /** absolute */
  readonly cwd: string
  /** added to the environment of the user's login */
  readonly env: Readonly<Record<string, string>>
  /** what it started may outlive it, as after a login */
  readonly sparesChildren?: boolean
}

export interface Exit {
  /** exit status, or null when a signal ended it */
  readonly code: number | null
  /** the signal's name, as SIGKILL, or null */
  readonly signal: string | null
}

export interface Running {
  readonly stdin: Writable
  readonly stdout: Readable
  readonly stderr: Readable
  /** How the program ended; what it left behind is ended with it. Fails with exec-failed when it never started. */
  readonly exited: Promise<Exit>
  /** To the program; what a keyboard sends goes to all that it started as well, as on a terminal. Resolves once it is sent. */
  signal(name: string): Promise<void>
  /** Ends the program and everything it started. May be repeated. */
  kill(): void
}

export interface TerminalSize {
  readonly cols: number
  readonly rows: number
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
  /** Ends what an earlier run of the agent left behind. */
  cleanUp(): Promise<void>
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

const FROM_KEYBOARD: readonly string[] = ['SIGINT', 'SIGQUIT']

/** Whether a terminal would send the signal to the whole foreground job: a shell waits for its child otherwise. */
export function isForAll(signal: string): boolean {
  return FROM_KEYBOARD.includes(signal)
}
