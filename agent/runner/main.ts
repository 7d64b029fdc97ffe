/**
 * The runner: one for each person and account, started by PID 1 as that account, in the person's slice. It starts programs
 * and holds their pipes, terminals, output and exits, whether or not an agent is there. It listens on descriptor 3.
 */
import { execFile } from 'node:child_process'
import { mkdtempSync, readFileSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { setFlagsFromString } from 'node:v8'
import { type DataFrame, encodeData, encodeMessage, FrameReader } from './frames.ts'
import { Held } from './held.ts'
import { type FromRunner, PROGRAMS, RUNNER_VERSION, type StartFailure, type ToRunner } from './messages.ts'
import type { Outlet } from './output-log.ts'
import { StartError, startPiped } from './piped-child.ts'
import { Pipes } from './pipes.ts'
import { startOnTerminal } from './terminal-child.ts'

const LISTEN_FD = 3
/** programs whose call is over and whose children may still write, at most: the output of the oldest is closed then. SPEC §9.2 */
const LEFT_OVER = 128
/** files that a program may open: what a login gives, and not what Node raised it to */
const FILES = '1024:'
/** ms between looks whether there is anything left to run for, and looks without until it ends */
const IDLE = { everyMs: 60_000, looks: 10 } as const

type Told<T extends ToRunner['type']> = Extract<ToRunner, { type: T }>

class Runner {
  readonly #pipes: Pipes
  readonly #held = new Map<number, Held>()
  readonly #leftOver = new Set<Held>()
  /** the newest that connected, and whether it was answered to its hello: nothing is said to it before */
  #agent: Socket | undefined
  #isGreeted = false
  /** what is being started: an answer to hello waits for it */
  readonly #starting = new Set<Promise<void>>()
  #idleLooks = 0

  constructor(pipes: Pipes) {
    this.#pipes = pipes
    setInterval(() => this.#look(), IDLE.everyMs).unref()
  }

  /** The newest agent is the one. */
  serve(socket: Socket): void {
    const before = this.#agent
    this.#agent = socket
    this.#isGreeted = false
    if (before) this.#leave(before)
    const reader = new FrameReader()
    socket.on('data', chunk => {
      if (this.#agent !== socket) return
      try {
        for (const frame of reader.push(chunk)) {
          if (frame.type === 'data') this.#input(frame)
          else this.#told(JSON.parse(frame.json) as ToRunner)
        }
      } catch {
        // no agent of ours
        socket.destroy()
      }
    })
    socket.on('error', () => {})
    socket.on('close', () => {
      if (this.#agent !== socket) return
      this.#agent = undefined
      this.#leave(socket)
    })
  }

  /** An agent is gone: what it did not keep ends, the rest waits for the next. */
  #leave(socket: Socket): void {
    socket.destroy()
    for (const [program, held] of this.#held) {
      held.log.leave()
      held.changed()
      if (held.memo === null) this.#forget(program, true)
    }
  }

  /** `to`: who asked; what another agent asked for is nothing to this one. */
  #say(message: FromRunner, to = this.#agent): void {
    if (this.#isGreeted && to === this.#agent) to?.write(encodeMessage(message))
  }

  #told(message: ToRunner): void {
    if (message.type === 'hello') return void this.#hello()
    if (message.type === 'ping') return this.#say({ type: 'pong' })
    if (message.type === 'start') return this.#begin(message)
    const held = this.#held.get(message.program)
    if (!held) return
    if (message.type === 'read') this.#read(held, message)
    else if (message.type === 'credit') held.log.addCredit(message.credit)
    else if (message.type === 'leave') held.log.leave()
    else if (message.type === 'release') held.log.release(message.to)
    else if (message.type === 'kill') held.kill()
    else if (message.type === 'forget') return this.#forget(message.program, false)
    else return this.#take(message.program, held.input(message))
    held.changed()
  }

  async #hello(): Promise<void> {
    const agent = this.#agent
    await Promise.all(this.#starting)
    if (agent !== this.#agent) return
    this.#isGreeted = true
    const states = [...this.#held].flatMap(([program, held]) =>
      held.memo === null ? [] : [held.stateAs(program, held.memo)],
    )
    this.#say({ type: 'hello', version: RUNNER_VERSION, programs: states.length })
    for (const state of states) this.#say({ type: 'held', ...state })
  }

  #begin(message: Told<'start'>): void {
    const starting = this.#start(message)
    this.#starting.add(starting)
    void starting.then(() => this.#starting.delete(starting))
  }

  /** Never fails. */
  async #start({ program, ...start }: Told<'start'>): Promise<void> {
    const agent = this.#agent
    allowOptimising()
    const held = new Held(start, () => this.#say({ type: 'over', program }))
    try {
      if (this.#held.size >= PROGRAMS) throw new StartError('limit-exceeded')
      this.#held.set(program, held)
      const child = start.size ? startOnTerminal(start, start.size, held) : await startPiped(start, this.#pipes, held)
      // nobody types
      if (start.detached) child.eof()
      held.runs(child)
      this.#say({ type: 'started', program }, agent)
    } catch (thrown) {
      this.#held.delete(program)
      const code: StartFailure = thrown instanceof StartError ? thrown.failure : 'exec-failed'
      this.#say({ type: 'failed', program, code }, agent)
    }
  }

  #read(held: Held, { program, from, credit }: Told<'read'>): void {
    const agent = this.#agent
    const outlet: Outlet = {
      data: (position, lane, bytes) => void agent?.write(encodeData({ program, position, lane, bytes })),
      exit: (position, exit) => this.#say({ type: 'exit', program, position, ...exit }, agent),
    }
    const position = held.log.read(from, credit, outlet)
    this.#say({ type: 'from', program, position })
    held.log.begin()
  }

  #input({ program, bytes }: DataFrame): void {
    const held = this.#held.get(program)
    if (held) this.#take(program, held.input(bytes))
  }

  #take(program: number, taking: Promise<number>): void {
    const agent = this.#agent
    void taking.then(position => this.#say({ type: 'taken', program, position }, agent))
  }

  #forget(program: number, kill: boolean): void {
    const held = this.#held.get(program)
    if (!held) return
    this.#held.delete(program)
    if (kill) held.kill()
    held.forget()
    this.#leftOver.add(held)
    void held.closed.then(() => this.#leftOver.delete(held))
    const [oldest] = this.#leftOver
    if (this.#leftOver.size > LEFT_OVER) oldest?.close()
  }

  /** Ends when for long there is nothing to hold and nobody else in its unit. */
  #look(): void {
    this.#idleLooks = this.#held.size === 0 && isAlone() ? this.#idleLooks + 1 : 0
    if (this.#idleLooks < IDLE.looks) return
    this.#pipes.dispose()
    process.exit(0)
  }
}

/** V8's compilers, from the quick one to the thorough one: the built program starts without them, and is idle without. */
function allowOptimising(): void {
  for (const compiler of ['sparkplug', 'maglev', 'opt']) setFlagsFromString(`--${compiler}`)
}

/** Whether no other process is in this one's control group; false where that is not known. */
function isAlone(): boolean {
  try {
    const path = /^0::(.+\.service)$/m.exec(readFileSync('/proc/self/cgroup', 'utf8'))?.[1]
    if (path === undefined) return false
    return readFileSync(`/sys/fs/cgroup${path}/cgroup.procs`, 'utf8').trim() === String(process.pid)
  } catch {
    return false
  }
}

/** Runs until it is ended. */
export async function serveAsRunner(): Promise<void> {
  // Node raised it for itself, and programs would inherit that
  execFile('/usr/bin/prlimit', ['--pid', String(process.pid), `--nofile=${FILES}`], { env: {} }, () => {})
  const folder = process.env.RUNTIME_DIRECTORY ?? mkdtempSync(join(tmpdir(), 'mortar-runner-'))
  const pipes = new Pipes(folder)
  pipes.prepare().catch(() => undefined)
  const runner = new Runner(pipes)
  const server = createServer(socket => runner.serve(socket))
  // a terminal's module is loaded before somebody waits for it, and after who waits already
  setImmediate(() => import('./pty.ts').then(({ nativePty }) => nativePty()).catch(() => undefined))
  await new Promise((_, reject) => server.once('error', reject).listen({ fd: LISTEN_FD }))
}
