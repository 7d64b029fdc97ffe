/**
 * What a program said, in one order and numbered as a kept call's direction is (SPEC §8.2): held until its client has read
 * it, and sent to the agent from whichever position it asks for. The exit is the last thing of it.
 */
import { encodeText } from '../../protocol/core/bytes.ts'
import { Spool } from '../../protocol/kept/spool.ts'
import { PIECE_BYTES, PIECE_COST, type Start } from './messages.ts'

export interface Exit {
  readonly code: number | null
  readonly signal: string | null
}

/** Where the output goes while somebody reads. */
export interface Outlet {
  data(position: number, lane: number, bytes: Uint8Array): void
  exit(position: number, exit: Exit): void
}

interface Reader {
  readonly outlet: Outlet
  next: number
  credit: number
  /** of a detached program: the exit was sent to it */
  ended: boolean
}

export type LogOptions = Pick<Start, 'whenFull' | 'spoolBytes' | 'detached'>

const EXIT = encodeText('exit')

export class OutputLog {
  readonly #options: LogOptions
  readonly #spool = new Spool()
  #reader: Reader | undefined
  #exit: Exit | undefined
  /** the exit has its place: nothing is taken any more */
  #closed = false
  /** what lies before was read */
  #readTo = 0

  constructor(options: LogOptions) {
    this.#options = options
  }

  get start(): number {
    return this.#spool.start
  }

  get end(): number {
    return this.#spool.end
  }

  get over(): boolean {
    return this.#exit !== undefined
  }

  /** Whether output is still taken. */
  get open(): boolean {
    return !this.#closed && !this.#reader?.ended
  }

  /** Whether the program is to wait before it says more. */
  get full(): boolean {
    if (this.#spool.bytes <= this.#options.spoolBytes) return false
    if (this.#options.detached) this.#spool.releaseTo(this.#readTo)
    return this.#spool.bytes > this.#options.spoolBytes && !this.#drops
  }

  get #drops(): boolean {
    return this.#options.whenFull === 'drop' && this.#reader === undefined
  }

  /** Takes output; the bytes are copied. */
  push(lane: number, bytes: Uint8Array): void {
    if (!this.open || bytes.length === 0) return
    // slice() of a Buffer would be a view, which the next read overwrites
    this.#spool.pushData(lane, new Uint8Array(bytes))
    if (this.#drops) this.#spool.bound()
    this.#pump()
  }

  /** How it ended. What its children write later is kept until the end is fetched, if it is detached. */
  close(exit: Exit): void {
    if (this.#exit) return
    this.#exit = exit
    if (!this.#options.detached) {
      this.#closed = true
      this.#spool.pushMessage(EXIT, undefined, 0)
    }
    this.#pump()
  }

  /** Sends from a position on, or from where something is held; that is the result. */
  read(from: number, credit: number, outlet: Outlet): number {
    const next = Math.max(from, this.#spool.start)
    this.#reader = { outlet, next, credit, ended: false }
    return next
  }

  /** To be called when the answer to read() is on its way. */
  begin(): void {
    this.#pump()
  }

  addCredit(credit: number): void {
    if (this.#reader) this.#reader.credit += credit
    this.#pump()
  }

  leave(): void {
    this.#reader = undefined
    if (this.#drops) this.#spool.bound()
  }

  /** The client has it. */
  release(to: number): void {
    // the end was fetched, so nothing comes behind it any more
    if (this.#exit && to > this.#spool.end) this.#closed = true
    this.#readTo = Math.min(Math.max(this.#readTo, to), this.#spool.end)
    if (!this.#options.detached) this.#spool.releaseTo(this.#readTo)
  }

  #pump(): void {
    const reader = this.#reader
    while (reader && reader.credit > 0) {
      const piece = this.#spool.at(reader.next)
      if (piece?.type === 'data') {
        const bytes = piece.bytes.subarray(0, Math.min(reader.credit, PIECE_BYTES))
        reader.outlet.data(reader.next, piece.lane, bytes)
        reader.next += bytes.length
        reader.credit -= bytes.length + PIECE_COST
      } else if (piece && this.#exit) {
        reader.outlet.exit(reader.next++, this.#exit)
      } else if (this.#exit && this.#options.detached && !reader.ended) {
        // its place is behind what there is when somebody comes for it, and open again when that one went without having read it
        reader.ended = true
        reader.outlet.exit(reader.next++, this.#exit)
      } else return
    }
  }
}
