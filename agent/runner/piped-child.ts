/** Starts a program on pipes, as the account that the runner is: the kernel finds, checks and refuses it. */
import { type ChildProcess, spawn } from 'node:child_process'
import { accessSync, closeSync, constants, statSync } from 'node:fs'
import { Socket } from 'node:net'
import { type Child, drain, killSession, type Sink, sendSignal, shared } from './child.ts'
import { isForAll, type Start, type StartFailure } from './messages.ts'
import { type Ends, type InputEnds, type PipeNames, type Pipes, pokeReader } from './pipes.ts'

/** ms between looks for a program that opens its input late: at first and at most */
const POKE_MS = { first: 5, most: 1_000 } as const

/** Why a program did not start. */
export class StartError extends Error {
  readonly failure: StartFailure
  constructor(failure: StartFailure) {
    super(failure)
    this.failure = failure
  }
}

/** Fails with StartError. */
export async function startPiped(start: Start, pipes: Pipes, sink: Sink): Promise<Child> {
  const [file = '', ...args] = start.argv
  // Node refuses what the kernel would not find
  if (file === '') throw new StartError('exec-not-found')
  const [input, output, error] = await takeNames(pipes)
  const opened: Ends[] = []
  const open = <E extends Ends>(ends: E): E => {
    opened.push(ends)
    return ends
  }
  try {
    const stdin = open(pipes.input(input))
    const outputs = [open(pipes.output(output)), open(pipes.output(error))] as const
    const child = spawn(file, args, {
      cwd: workingDirectory(start),
      env: start.env,
      stdio: opened.map(({ theirs }) => theirs),
      // a session of its own
      detached: true,
    })
    const spawned = new Promise<void>((resolve, reject) => child.once('spawn', resolve).once('error', reject))
    await spawned
    return new PipedChild(child, stdin, outputs, sink)
  } catch (thrown) {
    for (const ends of opened) {
      closeSync(ends.ours)
      if ('at' in ends) closeSync((ends as InputEnds).at)
    }
    throw new StartError(failureOf((thrown as NodeJS.ErrnoException).code, start.cwd))
  } finally {
    for (const { theirs } of opened) closeSync(theirs)
  }
}

async function takeNames(pipes: Pipes): Promise<PipeNames> {
  try {
    return await pipes.take()
  } catch {
    // as when the account has too many processes
    throw new StartError('limit-exceeded')
  }
}

/** The home, or / where that is no folder, unless one is given. */
export function workingDirectory({ cwd, home }: Pick<Start, 'cwd' | 'home'>): string {
  return cwd ?? (mayEnter(home) ? home : '/')
}

function mayEnter(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isDirectory()
  } catch {
    return false
  }
}

/** The kernel says one errno for folder and program alike. */
function failureOf(errno: string | undefined, cwd: string | null): StartFailure {
  if (cwd !== null && !mayEnter(cwd)) return 'directory-unknown'
  return errno === 'ENOENT' || errno === 'ENOTDIR' ? 'exec-not-found' : 'exec-failed'
}

class PipedChild implements Child {
  readonly #child: ChildProcess
  readonly #stdin: Socket
  readonly #at: number
  readonly #outputs: readonly Socket[]
  readonly closed: Promise<void>
  #ended = false

  constructor(child: ChildProcess, stdin: InputEnds, outputs: readonly Ends[], sink: Sink) {
    this.#child = child
    this.#at = stdin.at
    this.#stdin = new Socket({ fd: stdin.ours, readable: false, writable: true })
    // it closed its input
    this.#stdin.on('error', () => {})
    this.#outputs = outputs.map(({ ours }, lane) => readFrom(ours, bytes => sink.take(lane, bytes)))
    this.closed = Promise.all(this.#outputs.map(hasClosed)).then(() => undefined)
    child.on('error', () => {})
    child.once('exit', (code, signal) => {
      this.#ended = true
      this.#stdin.destroy()
      closeSync(this.#at)
      outputs.forEach(({ ours }, lane) => {
        if (!this.#outputs[lane]?.destroyed) drain(ours, bytes => sink.take(lane, bytes))
      })
      sink.exited({ code, signal })
    })
  }

  write(bytes: Uint8Array): Promise<void> {
    if (!this.#stdin.writable) return Promise.resolve()
    return new Promise(resolve => {
      const closed = () => resolve()
      this.#stdin.once('close', closed)
      this.#stdin.write(bytes, () => {
        this.#stdin.off('close', closed)
        resolve()
      })
    })
  }

  eof(): void {
    if (this.#stdin.writableEnded) return
    this.#stdin.end()
    this.#stdin.once('close', () => this.#poke(POKE_MS.first))
  }

  #poke(delayMs: number): void {
    if (this.#ended || !pokeReader(this.#at)) return
    setTimeout(() => this.#poke(Math.min(2 * delayMs, POKE_MS.most)), delayMs).unref()
  }

  resize(): void {}

  signal(name: string): void {
    const { pid } = this.#child
    // the process id is the child's own only until it ends
    if (pid !== undefined && !this.#ended) sendSignal(isForAll(name) ? -pid : pid, name as NodeJS.Signals)
  }

  kill(): void {
    const { pid } = this.#child
    if (pid !== undefined && !this.#ended) killSession(pid)
  }

  resume(): void {
    for (const output of this.#outputs) if (!output.destroyed) output.resume()
  }

  close(): void {
    for (const output of this.#outputs) output.destroy()
  }
}

const hasClosed = (output: Socket) => new Promise<void>(resolve => output.once('close', () => resolve()))

/** Reads into shared memory; `take` says whether there is room for more. */
function readFrom(fd: number, take: (bytes: Uint8Array) => boolean): Socket {
  const callback = (count: number) => take(shared.subarray(0, count))
  const socket = new Socket({ fd, readable: true, writable: false, onread: { buffer: shared, callback } })
  socket.on('error', () => {})
  socket.resume()
  return socket
}
