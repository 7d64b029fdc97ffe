/** One reading of a program's output at its runner, from one position on: pieces in order, no more than the credit allows. */
import { MortarError } from '../../protocol/core/errors.ts'
import type { HeldPiece, HeldReader } from '../../protocol/kept/held-log.ts'
import { CREDIT_BYTES, PIECE_COST, type ToRunner } from '../runner/messages.ts'

/** What the runner did that it must not. */
export class RunnerViolation extends Error {}

export function demand(holds: boolean, what: string): void {
  if (!holds) throw new RunnerViolation(what)
}

/** What a runner may have said that has not come yet. */
export interface UnderWay {
  /** of data, as credit counts them */
  readonly bytes: number
  readonly messages: number
}

/** What it asks of the link to the runner. */
interface Teller {
  tell(message: ToRunner): void
}

export class Reader implements HeldReader {
  readonly #program: number
  readonly #host: Teller
  readonly #asked: number
  readonly #begun = Promise.withResolvers<void>()
  readonly #pieces: (HeldPiece | null)[] = []
  #from: number | undefined
  /** position of what comes next */
  #next = 0
  /** what the runner may still send, as it counts too */
  #credit = CREDIT_BYTES
  /** of what was taken: the credit that has not gone back yet */
  #owed = 0
  #finished = false
  #closed = false
  #failure: MortarError | undefined
  #wake: (() => void) | undefined

  constructor(program: number, host: Teller, asked: number) {
    this.#program = program
    this.#host = host
    this.#asked = asked
    this.#begun.promise.catch(() => undefined)
    host.tell({ type: 'read', program, from: asked, credit: CREDIT_BYTES })
  }

  get begun(): Promise<void> {
    return this.#begun.promise
  }

  get from(): number {
    return this.#from ?? this.#asked
  }

  begin(position: number): number {
    demand(position >= this.#asked, 'from')
    this.#from = this.#next = position
    this.#begun.resolve()
    return position
  }

  /** What the runner may still send for it: data as credit counts them, and the exit. */
  get underWay(): UnderWay {
    if (this.#finished) return { bytes: 0, messages: 0 }
    return { bytes: Math.max(this.#credit + PIECE_COST, 0), messages: 1 }
  }

  /** False for what nobody takes any more; it is checked all the same. Comes after begin(). */
  take(piece: HeldPiece, position: number, count: number): boolean {
    demand(position === this.#next && !this.#finished, 'position')
    this.#next += count
    if (piece.type === 'data') {
      demand(count <= this.#credit, 'credit')
      this.#credit -= count + PIECE_COST
    }
    if (this.#closed) return false
    this.#pieces.push(piece)
    this.#wake?.()
    return true
  }

  /** The exit came. */
  finish(): void {
    this.#finished = true
    if (this.#closed) return
    this.#pieces.push(null)
    this.#wake?.()
  }

  async next(): Promise<HeldPiece | null> {
    this.#giveCredit()
    while (this.#pieces.length === 0) {
      if (this.#failure) throw this.#failure
      if (this.#closed) throw new MortarError('going-away', 'another reads')
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
    const piece = this.#pieces.shift() ?? null
    if (piece?.type === 'data') this.#owed += piece.bytes.length + PIECE_COST
    return piece
  }

  #giveCredit(): void {
    if (this.#owed < CREDIT_BYTES / 4 || this.#finished || this.#closed || this.#failure) return
    this.#credit += this.#owed
    this.#host.tell({ type: 'credit', program: this.#program, credit: this.#owed })
    this.#owed = 0
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    if (!this.#failure) this.#host.tell({ type: 'leave', program: this.#program })
    this.#begun.reject(new MortarError('going-away'))
    this.#wake?.()
  }

  fail(error: MortarError): void {
    this.#failure = error
    this.#begun.reject(error)
    this.#wake?.()
  }
}
