/**
 * A program at a runner, as the agent sees it: input goes there in order, output comes from there by position. What the
 * runner says is checked; what breaks a rule is its end (runner-link.ts). SPEC §8.2
 */
import { MortarError } from '../../protocol/core/errors.ts'
import type { HeldLog, HeldReader } from '../../protocol/kept/held-log.ts'
import { encodeMessage } from '../../protocol/mux/stream.ts'
import type { DataFrame } from '../runner/frames.ts'
import { type FromRunner, PIECE_BYTES, PIECE_COST, type ToRunner } from '../runner/messages.ts'
import { demand, Reader, RunnerViolation, type UnderWay } from './runner-reader.ts'

/** What a program asks of the link to its runner. */
export interface ProgramHost {
  tell(message: ToRunner): void
  send(data: Omit<DataFrame, 'type'>): void
  /** nothing more is to be said of it; `underWay`: what the runner may have said that has not come yet */
  forget(program: number, underWay: UnderWay): void
}

export type Input =
  | { readonly type: 'data'; readonly bytes: Uint8Array }
  | { readonly type: 'eof' }
  | { readonly type: 'signal'; readonly name: string }
  | { readonly type: 'resize'; readonly cols: number; readonly rows: number }

type Said<T extends FromRunner['type']> = Extract<FromRunner, { type: T }>

const NOTHING: UnderWay = { bytes: 0, messages: 0 }
const sum = (a: UnderWay, b: UnderWay) => ({ bytes: a.bytes + b.bytes, messages: a.messages + b.messages })

export class RunnerProgram implements HeldLog {
  readonly id: number
  readonly #host: ProgramHost
  readonly #started = Promise.withResolvers<void>()
  readonly #over = Promise.withResolvers<void>()
  /** 'starting' until it runs, then 'running', 'over', and 'forgotten' */
  #state: 'starting' | 'running' | 'over' | 'forgotten' = 'starting'
  #failure: MortarError | undefined
  #reader: Reader | undefined
  /** when it was asked for */
  readonly #startMs = performance.now()
  /** of `read` messages to which no `from` has come, when they were sent: what comes before the last is for readers that are gone */
  readonly #unanswered: number[] = []
  /** what may still come for those readers */
  #stale = NOTHING
  /** position behind the last that was seen */
  #end = 0
  /** positions up to which input was sent, and was taken; and those behind each piece that was not */
  readonly #sending: number[] = []
  #sent = 0
  #taken = 0
  #wakeInput: (() => void) | undefined
  #released = 0

  constructor(id: number, host: ProgramHost) {
    this.id = id
    this.#host = host
    this.#started.promise.catch(() => undefined)
    this.#over.promise.catch(() => undefined)
  }

  /** One that an earlier agent started. */
  static resume(host: ProgramHost, { program, start, end, taken, over }: Said<'held'>): RunnerProgram {
    demand(start <= end, 'positions of a program')
    const resumed = new RunnerProgram(program, host)
    resumed.#state = 'running'
    resumed.#started.resolve()
    resumed.#end = end
    resumed.#released = start
    resumed.#sent = resumed.#taken = taken
    if (over) resumed.#setOver()
    return resumed
  }

  /** Resolves once it runs. Fails with exec-not-found, exec-failed, directory-unknown, limit-exceeded, runner-lost. */
  get started(): Promise<void> {
    return this.#started.promise
  }

  /** Resolves when it has ended, whether or not its output was read. Fails with runner-lost. */
  get over(): Promise<void> {
    return this.#over.promise
  }

  /** When what the runner has not answered yet was asked, by performance.now(); Infinity when it has answered all. */
  get askedMs(): number {
    return this.#state === 'starting' ? this.#startMs : (this.#unanswered[0] ?? Number.POSITIVE_INFINITY)
  }

  get isOver(): boolean {
    return this.#state === 'over'
  }

  get end(): number {
    return this.#end
  }

  /** position up to which its input was taken */
  get taken(): number {
    return this.#taken
  }

  /** Sends input; resolves once the program, or its pipe, has taken it, or is over. Fails with runner-lost. */
  async input(item: Input): Promise<void> {
    if (item.type === 'data') {
      for (let offset = 0; offset < item.bytes.length; offset += PIECE_BYTES) {
        await this.#pass(item.bytes.subarray(offset, offset + PIECE_BYTES))
      }
    } else await this.#pass(item)
  }

  async #pass(item: Uint8Array | Exclude<Input, { type: 'data' }>): Promise<void> {
    if (this.#failure) throw this.#failure
    if (this.#state === 'over' || this.#state === 'forgotten') return
    const program = this.id
    if (item instanceof Uint8Array) {
      this.#host.send({ program, position: this.#sent, lane: 0, bytes: item })
      this.#sent += item.length
    } else {
      this.#host.tell({ ...item, program })
      this.#sent++
    }
    const position = this.#sent
    this.#sending.push(position)
    while (this.#taken < position && this.#state === 'running') {
      await new Promise<void>(resolve => {
        this.#wakeInput = resolve
      })
    }
    if (this.#failure) throw this.#failure
  }

  async open(from: number): Promise<HeldReader> {
    if (this.#failure) throw this.#failure
    if (this.#reader) this.#stale = sum(this.#stale, this.#reader.underWay)
    this.#reader?.close()
    const reader = new Reader(this.id, this.#host, from)
    this.#reader = reader
    this.#unanswered.push(performance.now())
    // asking was what lost the runner
    if (this.#failure) reader.fail(this.#failure)
    await reader.begun
    return reader
  }

  release(position: number): void {
    if (position <= this.#released || this.#state === 'forgotten' || this.#failure) return
    this.#released = position
    this.#host.tell({ type: 'release', program: this.id, to: position })
  }

  /** Ends it with what shares its process group and session. */
  kill(): void {
    if (this.#state === 'starting' || this.#state === 'running') this.#host.tell({ type: 'kill', program: this.id })
  }

  /** The call is over. A program that runs is ended. */
  forget(): void {
    if (this.#state === 'forgotten') return
    this.kill()
    this.#state = 'forgotten'
    this.#reader?.close()
    this.#wakeInput?.()
    if (this.#failure) return
    this.#host.tell({ type: 'forget', program: this.id })
    this.#host.forget(this.id, this.#underWay)
  }

  get #underWay(): UnderWay {
    // beside that it started, and that it is over
    const messages = 2 + this.#unanswered.length + this.#sending.length
    const read = sum(this.#stale, this.#reader?.underWay ?? NOTHING)
    return sum(read, { bytes: 0, messages })
  }

  /** The runner is lost. */
  fail(error: MortarError): void {
    if (this.#failure) return
    this.#failure = error
    this.#started.reject(error)
    this.#over.reject(error)
    if (this.#state !== 'forgotten') this.#state = 'over'
    this.#reader?.fail(error)
    this.#wakeInput?.()
  }

  /** What the runner said of it. Throws RunnerViolation. */
  said(message: Exclude<FromRunner, { type: 'hello' | 'held' | 'pong' }>): void {
    if (message.type === 'from') return this.#begin(message)
    if (message.type === 'exit') return this.#exit(message)
    if (message.type === 'taken') return this.#take(message)
    if (message.type === 'over') {
      demand(this.#state !== 'over', 'over twice')
      return this.#setOver()
    }
    demand(this.#state === 'starting', message.type)
    if (message.type === 'started') {
      this.#state = 'running'
      this.#started.resolve()
    } else {
      this.fail(new MortarError(message.code))
      this.#host.forget(this.id, NOTHING)
    }
  }

  #begin({ position }: Said<'from'>): void {
    demand(this.#unanswered.shift() !== undefined, 'from')
    if (this.#unanswered.length > 0) return
    this.#stale = NOTHING
    this.#seen(this.#requireReader().begin(position))
  }

  data({ position, lane, bytes }: DataFrame): void {
    const reader = this.#requireReader()
    const { length } = bytes
    if (this.#unanswered.length > 0) return this.#skip({ bytes: length + PIECE_COST, messages: 0 })
    demand(lane <= 1 && length > 0, 'data')
    if (reader.take({ type: 'data', lane, bytes }, position, length)) this.#seen(position + length)
  }

  #exit({ position, code, signal }: Said<'exit'>): void {
    const reader = this.#requireReader()
    if (this.#unanswered.length > 0) return this.#skip({ bytes: 0, messages: 1 })
    const taken = reader.take({ type: 'message', body: encodeMessage('exit', { code, signal }) }, position, 1)
    reader.finish()
    if (taken) this.#seen(position + 1)
  }

  /** What comes for a reader that is gone. */
  #skip({ bytes, messages }: UnderWay): void {
    this.#stale = sum(this.#stale, { bytes: -bytes, messages: -messages })
    demand(this.#stale.bytes >= 0 && this.#stale.messages >= 0, 'much for readers that are gone')
  }

  #take({ position }: Said<'taken'>): void {
    demand(position === this.#sending.shift(), 'taken')
    this.#taken = position
    this.#wakeInput?.()
  }

  #setOver(): void {
    this.#state = 'over'
    this.#over.resolve()
    this.#wakeInput?.()
  }

  #requireReader(): Reader {
    const reader = this.#reader
    if (!reader) throw new RunnerViolation('nobody reads')
    return reader
  }

  #seen(position: number): void {
    this.#end = Math.max(this.#end, position)
  }
}
