/**
 * The agent's end of the socket to one runner. What comes from there is hostile: a user's programs may have taken their
 * runner over. A runner that breaks a rule, says nothing when asked, or dies is lost, and its programs with it; no other
 * runner notices. The table of messages is agent/runner/messages.ts.
 */
import { connect, type Socket } from 'node:net'
import { MortarError } from '../../protocol/core/errors.ts'
import { type DataFrame, encodeData, encodeMessage, type Frame } from '../runner/frames.ts'
import { type FromRunner, PROGRAMS, RUNNER_VERSION, SILENCE_MS, type Start, type ToRunner } from '../runner/messages.ts'
import { Ignored } from './runner-ignored.ts'
import { type ProgramHost, RunnerProgram } from './runner-program.ts'
import { RunnerViolation, type UnderWay } from './runner-reader.ts'
import { parseFromRunner } from './runner-schemas.ts'
import { takeFrames } from './runner-turns.ts'

const PING_MS = 10_000
/** ms until a runner that is being started has answered: under emulation it takes seconds */
const HELLO_MS = 45_000
/** bytes that may wait for a runner which does not read: a start and a piece of input for each program, and what is said beside */
const UNREAD_BYTES = 16_777_216

/** A program that an earlier agent left at the runner, and what that one wrote down of its call. */
export interface LeftProgram {
  readonly program: RunnerProgram
  readonly memo: string
}

export class RunnerLink implements ProgramHost {
  readonly #socket: Socket
  readonly #programs = new Map<number, RunnerProgram>()
  readonly #ignored = new Ignored()
  readonly #left: LeftProgram[] = []
  readonly #hello = Promise.withResolvers<void>()
  readonly #lost = Promise.withResolvers<MortarError>()
  /** `held` messages that are still to come; undefined before hello */
  #heldToCome: number | undefined
  #nextId = 1
  #pingedMs: number | undefined
  #isLost = false
  /** it was this side that let go */
  wasClosed = false

  private constructor(socket: Socket) {
    this.#socket = socket
    this.#hello.promise.catch(() => undefined)
    const take = (frame: Frame) =>
      frame.type === 'data' ? this.#data(frame) : this.#said(frame, parseFromRunner(frame.json))
    // what a message holds is its user's
    const fail = (cause: unknown) =>
      this.#lose(cause instanceof RunnerViolation ? cause.message : 'no message of a runner')
    takeFrames(socket, take, fail)
    socket.on('error', () => {})
    socket.on('close', () => this.#lose('it is gone'))
  }

  /** Connects, and resolves once the runner has said what it holds. Fails with runner-lost. */
  static async open(path: string): Promise<RunnerLink> {
    const link = new RunnerLink(connect(path))
    const patience = setTimeout(() => link.#lose('it does not answer'), HELLO_MS)
    try {
      link.tell({ type: 'hello', version: RUNNER_VERSION })
      await link.#hello.promise
    } finally {
      clearTimeout(patience)
    }
    const pinging = setInterval(() => link.#ping(), PING_MS).unref()
    void link.#lost.promise.then(() => clearInterval(pinging))
    return link
  }

  /** Resolves when the runner is lost, with why. */
  get lost(): Promise<MortarError> {
    return this.#lost.promise
  }

  get isLost(): boolean {
    return this.#isLost
  }

  /** Programs that are neither over nor forgotten are among them. */
  get size(): number {
    return this.#programs.size
  }

  /** What an earlier agent left here; each is taken up by whoever takes it from the list, or forgotten. */
  takeLeft(): LeftProgram[] {
    return this.#left.splice(0)
  }

  /** Has a program started; resolves once it runs. Fails with its code, limit-exceeded, or runner-lost. */
  async start(start: Start): Promise<RunnerProgram> {
    if (this.#isLost) throw new MortarError('runner-lost')
    // a runner that was taken over counts nothing
    if (this.#programs.size >= PROGRAMS) throw new MortarError('limit-exceeded', 'programs of a runner')
    const program = new RunnerProgram(this.#nextId++, this)
    this.#programs.set(program.id, program)
    this.tell({ type: 'start', program: program.id, ...start })
    await program.started
    return program
  }

  tell(message: ToRunner): void {
    this.#write(encodeMessage(message))
  }

  send(data: Omit<DataFrame, 'type'>): void {
    this.#write(encodeData(data))
  }

  #write(frame: Buffer): void {
    if (this.#isLost) return
    this.#socket.write(frame)
    if (this.#socket.writableLength > UNREAD_BYTES) this.#lose('it reads nothing')
  }

  forget(program: number, underWay: UnderWay): void {
    this.#programs.delete(program)
    this.#ignored.expect(underWay)
  }

  /** Lets the runner be: what is not kept ends, the rest waits for another agent. */
  close(): void {
    this.wasClosed = true
    this.#lose('the agent let it go')
  }

  #data(frame: DataFrame): void {
    this.#find(frame.program, frame)?.data(frame)
  }

  #said(frame: Frame, message: FromRunner): void {
    this.#expect(message.type)
    if (message.type === 'hello') this.#start(message)
    else if (message.type === 'held') this.#hold(message)
    else if (message.type === 'pong') this.#pong()
    else this.#find(message.program, frame)?.said(message)
  }

  /** hello comes first and once, then as many `held` as it said, then the rest. */
  #expect(type: FromRunner['type']): void {
    const due = this.#heldToCome === undefined ? 'hello' : this.#heldToCome > 0 ? 'held' : undefined
    if (due ? type !== due : type === 'hello' || type === 'held') throw new RunnerViolation(`${type} out of turn`)
  }

  #start({ version, programs }: Extract<FromRunner, { type: 'hello' }>): void {
    if (version !== RUNNER_VERSION) throw new RunnerViolation(`version ${version}`)
    this.#heldToCome = programs
    if (programs === 0) this.#hello.resolve()
  }

  #hold(message: Extract<FromRunner, { type: 'held' }>): void {
    const { program: id, memo } = message
    if (id < 1 || this.#programs.has(id)) throw new RunnerViolation('a program twice, or none')
    const program = RunnerProgram.resume(this, message)
    this.#programs.set(id, program)
    this.#left.push({ program, memo })
    this.#nextId = Math.max(this.#nextId, id + 1)
    this.#heldToCome = (this.#heldToCome ?? 0) - 1
    if (this.#heldToCome === 0) this.#hello.resolve()
  }

  /** Undefined for one that was forgotten, of which something was under way. */
  #find(id: number, frame: Frame): RunnerProgram | undefined {
    if (this.#heldToCome !== 0 || id < 1 || id >= this.#nextId) throw new RunnerViolation('an unknown program')
    const program = this.#programs.get(id)
    if (!program) this.#ignored.take(frame)
    return program
  }

  #ping(): void {
    const asked = performance.now() - SILENCE_MS
    if ([...this.#programs.values()].some(({ askedMs }) => askedMs < asked))
      return this.#lose('it leaves questions open')
    if (this.#pingedMs === undefined) {
      this.#pingedMs = performance.now()
      this.tell({ type: 'ping' })
    } else if (performance.now() - this.#pingedMs > SILENCE_MS) this.#lose('it hangs')
  }

  #pong(): void {
    if (this.#pingedMs === undefined) throw new RunnerViolation('pong')
    this.#pingedMs = undefined
  }

  #lose(why: string): void {
    if (this.#isLost) return
    this.#isLost = true
    this.#socket.destroy()
    const error = new MortarError('runner-lost', why)
    this.#hello.reject(error)
    for (const program of this.#programs.values()) program.fail(error)
    this.#programs.clear()
    this.#lost.resolve(error)
  }
}
