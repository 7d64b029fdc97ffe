/**
 * Pipes between a runner and its programs. Node's own are sockets, which /dev/stdin, /dev/stdout and /dev/stderr cannot
 * open again; these are FIFOs without a name: made ahead in a private folder, opened and unlinked at once.
 */
import { execFile } from 'node:child_process'
import { closeSync, constants, openSync, readdirSync, unlinkSync } from 'node:fs'
import { join } from 'node:path'

const { O_RDONLY, O_WRONLY, O_RDWR, O_NONBLOCK, O_NOFOLLOW } = constants
/** of Linux: names the file without opening it as reader or writer */
const O_PATH = 0o10000000
/** FIFOs made by one mkfifo(1), and so few left that more are made beside */
const [BATCH, FEW] = [96, 32]

/** One end is ours, not blocking; the other is the program's and blocks, as pipes do. */
export interface Ends {
  readonly ours: number
  readonly theirs: number
}

/** of a program's input, output and error */
export type PipeNames = readonly [string, string, string]

export interface InputEnds extends Ends {
  /** names the FIFO as long as it is open */
  readonly at: number
}

export class Pipes {
  readonly #folder: string
  #paths: string[] = []
  #count = 0
  #making: Promise<void> | undefined

  /** `folder`: empty, nobody else's. */
  constructor(folder: string) {
    this.#folder = folder
  }

  /** Has pipes made ahead. Fails when none can be made. */
  async prepare(): Promise<void> {
    this.#paths.push(...(await this.take()))
  }

  /** Names for a program's three, nobody else's from now on. Fails when none can be made. */
  async take(): Promise<PipeNames> {
    for (;;) {
      if (this.#paths.length < FEW) this.#makeMore()
      const [input, output, error, ...others] = this.#paths
      if (input !== undefined && output !== undefined && error !== undefined) {
        this.#paths = others
        return [input, output, error]
      }
      await this.#making
    }
  }

  #makeMore(): void {
    this.#making ??= this.#make().finally(() => (this.#making = undefined))
    // whoever needs them is told; made ahead, they are missed by nobody
    this.#making.catch(() => undefined)
  }

  async #make(): Promise<void> {
    const names = Array.from({ length: BATCH }, () => `p${this.#count++}`)
    const paths = names.map(name => join(this.#folder, name))
    await new Promise<void>((resolve, reject) =>
      execFile('/usr/bin/mkfifo', ['-m', '600', ...paths], { env: {} }, error => (error ? reject(error) : resolve())),
    )
    this.#paths.push(...paths)
  }

  /** A pipe from a program to us. */
  output(name: string): Ends {
    const at = openUnlinked(name)
    try {
      const ours = reopen(at, O_RDONLY | O_NONBLOCK)
      return { ours, theirs: reopen(at, O_WRONLY) }
    } finally {
      closeSync(at)
    }
  }

  /** A pipe from us to a program. Whoever takes it closes `at`. */
  input(name: string): InputEnds {
    const at = openUnlinked(name)
    // neither side waits for the other while this one is both
    const both = reopen(at, O_RDWR | O_NONBLOCK)
    try {
      const ours = reopen(at, O_WRONLY | O_NONBLOCK)
      return { at, ours, theirs: reopen(at, O_RDONLY) }
    } finally {
      closeSync(both)
    }
  }

  /** Removes the names of those that were not used. */
  dispose(): void {
    for (const name of readdirSync(this.#folder)) unlinkSync(join(this.#folder, name))
  }
}

function openUnlinked(path: string): number {
  const at = openSync(path, O_PATH | O_NOFOLLOW)
  unlinkSync(path)
  return at
}

/** By the descriptor and not by a name, which somebody could have given to another file. */
function reopen(at: number, flags: number): number {
  return openSync(`/proc/self/fd/${at}`, flags)
}

/**
 * Lets a program that opens /dev/stdin only now, when the input is over, see its end: opening a FIFO waits for a writer,
 * other than opening a pipe. False once nobody reads it.
 */
export function pokeReader(at: number): boolean {
  try {
    closeSync(reopen(at, O_WRONLY | O_NONBLOCK))
    return true
  } catch {
    return false
  }
}
