/**
 * The half of a kept call that sends: what is written waits in the spool and goes out over whichever stream is there, again
 * from where the other end is known to have read. SPEC §8.2
 *
 *    write, post, end ──► spool ── pump ──► stream (or none, until the next is there)
 */
import type { WhenFull } from '../commands/command.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import type { Stream } from '../mux/stream.ts'
import type { Sender } from './sender.ts'
import { Spool } from './spool.ts'

/** bytes not yet handed to a stream up to which writers go on */
const UNSENT_BYTES = 131_072
/** messages that wait for credit or for the next stream */
const WAITING_MESSAGES = 1_000

interface Outlet {
  readonly stream: Stream
  /** bytes of DATA, and messages, of the whole call before the first that this stream carries */
  readonly before: { readonly data: number; readonly messages: number }
}

export class KeptSender implements Sender {
  readonly #whenFull: WhenFull
  readonly #mayEnd: () => boolean
  readonly #spool = new Spool()
  #out: Outlet | undefined
  /** position of what is sent next on this stream */
  #next = 0
  /** position behind what may have left */
  #sent = 0
  #ending = false
  #failure: MortarError | undefined
  #waiting: (() => void)[] = []

  /** `mayEnd`: whether END may be said once all is sent; see changed(). */
  constructor(whenFull: WhenFull, mayEnd: () => boolean) {
    this.#whenFull = whenFull
    this.#mayEnd = mayEnd
  }

  /** position at which this stream goes on */
  begin(): number {
    return this.#next
  }

  /** position beyond which the other end can have read nothing */
  get sent(): number {
    return this.#sent
  }

  /** position of the first thing that could be sent again */
  get start(): number {
    return this.#spool.start
  }

  get ending(): boolean {
    return this.#ending
  }

  /** From here on this stream carries what follows `peerReceived`, or what is left of it, once pump() is called. */
  use(stream: Stream, peerReceived: number): void {
    this.#spool.releaseTo(peerReceived)
    // what the other end never got may still be numbered anew
    this.#next = this.#sent = this.#spool.start
    this.#out = { stream, before: this.#spool.before(this.#next) }
    this.changed()
  }

  /** The stream carries no more. */
  letGo(): void {
    this.#release()
    this.#out = undefined
    this.changed()
  }

  /** Sends over the stream that is in use, until it is not or the call ends. */
  async pump(): Promise<void> {
    const out = this.#out
    try {
      while (out && this.#out === out) {
        this.#release()
        const piece = this.#spool.at(this.#next)
        if (piece?.type === 'data') {
          // what is under way may arrive, whether or not this stream lives to say so
          this.#sent = Math.max(this.#sent, this.#next + piece.bytes.length)
          await out.stream.write(piece.bytes, piece.lane)
          if (this.#out === out) this.#next += piece.bytes.length
          this.changed()
        } else if (piece) {
          this.#sent = Math.max(this.#sent, this.#next + 1)
          await out.stream.send(piece.body)
          if (this.#out === out) this.#next++
        } else if (this.#ending && this.#mayEnd()) return out.stream.end()
        else await this.#change()
      }
    } catch {
      // the stream is over, which it has told
    }
  }

  /** Forgets what the other end is known to have read, since it gave credit for it. */
  #release(): void {
    if (!this.#out) return
    const { before, stream } = this.#out
    this.#spool.releaseRead(before.data + stream.readBytes, before.messages + stream.readMessages)
  }

  /** CallStream's write(). */
  async write(bytes: Uint8Array, lane: number): Promise<void> {
    this.requireOpen()
    if (bytes.length === 0) return
    this.#spool.pushData(lane, bytes)
    if (!this.#out && this.#whenFull === 'drop') this.#spool.bound()
    this.changed()
    while (this.#isFull() && !this.#failure) await this.#change()
    if (this.#failure) throw this.#failure
  }

  #isFull(): boolean {
    if (this.#out) return this.#spool.end - this.#next > UNSENT_BYTES
    return this.#whenFull === 'wait' && this.#spool.bytes > LIMITS.spoolBytes
  }

  /** CallStream's post(). Fails with limit-exceeded when too many wait for the next session. */
  post(body: Uint8Array, key?: string): void {
    this.requireOpen()
    if (body.length > LIMITS.messageBytes) throw new MortarError('limit-exceeded', 'message')
    if (this.#spool.messagesFrom(this.#sent) >= WAITING_MESSAGES && key === undefined) {
      throw new MortarError('limit-exceeded', 'messages that wait')
    }
    this.#spool.pushMessage(body, key, this.#sent)
    this.changed()
  }

  end(): void {
    this.#ending = true
    this.changed()
  }

  /** Nothing is sent any more; writers fail with the error. */
  fail(error: MortarError): void {
    this.#failure = error
    this.#spool.releaseTo(this.#spool.end)
    this.changed()
  }

  requireOpen(): void {
    if (this.#failure) throw this.#failure
    if (this.#ending) throw new MortarError('internal', 'sent after end')
  }

  readonly #change = () => new Promise<void>(resolve => this.#waiting.push(resolve))

  /** To be called when what mayEnd() says has changed. */
  changed(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
