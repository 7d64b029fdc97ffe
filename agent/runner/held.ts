/** One program at its runner: input in order, output in its log, and whether there is room for more. */
import type { Child, Sink } from './child.ts'
import type { HeldState, Size, Start } from './messages.ts'
import { type Exit, OutputLog } from './output-log.ts'

type Input = Uint8Array | { readonly type: 'eof' } | { readonly type: 'signal'; readonly name: string } | ResizeInput
type ResizeInput = { readonly type: 'resize' } & Size

export class Held implements Sink {
  readonly log: OutputLog
  readonly memo: string | null
  readonly #onOver: () => void
  #child: Child | undefined
  /** position up to which the input was accepted, and what writes it */
  #taken = 0
  #writing: Promise<void>
  readonly #running = Promise.withResolvers<void>()
  #paused = false
  #killed = false
  #forgotten = false

  constructor(start: Start, onOver: () => void) {
    this.log = new OutputLog(start)
    this.memo = start.memo
    this.#onOver = onOver
    // what comes before it runs waits
    this.#writing = this.#running.promise
  }

  /** To be called once it runs; what it said and how it ended may have come before. */
  runs(child: Child): void {
    this.#child = child
    if (this.#killed) child.kill()
    this.#running.resolve()
  }

  stateAs(program: number, memo: string): HeldState {
    const { log } = this
    return { program, memo, start: log.start, end: log.end, taken: this.#taken, over: log.over }
  }

  take(lane: number, bytes: Uint8Array): boolean {
    // what nobody will read is taken all the same: a closed pipe would end who writes to it
    if (!this.log.open || this.#forgotten) return true
    this.log.push(lane, bytes)
    this.#paused = this.log.full
    return !this.#paused
  }

  exited(exit: Exit): void {
    this.log.close(exit)
    this.#resume()
    // its number may be another program's by now
    if (!this.#forgotten) this.#onOver()
  }

  /** Accepts input, in order; resolves with the position behind it once the program, or its pipe, took it. */
  async input(item: Input): Promise<number> {
    this.#taken += item instanceof Uint8Array ? item.length : 1
    const position = this.#taken
    this.#writing = this.#writing.then(() => this.#write(item))
    await this.#writing
    return position
  }

  async #write(item: Input): Promise<void> {
    if (item instanceof Uint8Array) return this.#child?.write(item)
    if (item.type === 'eof') this.#child?.eof()
    else if (item.type === 'signal') this.#child?.signal(item.name)
    else this.#child?.resize(item)
  }

  /** To be called when there may be room again. */
  changed(): void {
    if (this.#paused && !this.log.full) this.#resume()
  }

  #resume(): void {
    this.#paused = false
    this.#child?.resume()
  }

  kill(): void {
    this.#killed = true
    this.#child?.kill()
  }

  /** Nobody comes for it any more; what it started goes on, and is read so that it may. */
  forget(): void {
    this.#forgotten = true
    this.#resume()
  }

  /** Lets go of its pipes. */
  close(): void {
    this.#child?.close()
  }

  /** Resolves when no program has its pipes any more. */
  get closed(): Promise<void> {
    return this.#running.promise.then(() => this.#child?.closed)
  }
}
