/**
 * The stream of a kept call: it is carried by one stream after another, of one session after another, and loses nothing
 * between them but what its spool had to drop. Both ends use it. SPEC §8.2
 *
 *    handler or caller ── write, post ──► spool ── pump ──► stream of the session that is there
 *                      ◄───────────── items ◄────────────── (or none, until the next attaches)
 */
import type { WhenFull } from '../commands/command.ts'
import { type ErrorCode, MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import type { CallStream, Gap } from '../mux/call-stream.ts'
import type { Item } from '../mux/inbox.ts'
import type { Stream, StreamEnd } from '../mux/stream.ts'
import { Spool } from './spool.ts'

/** bytes not yet handed to a stream up to which writers go on */
const UNSENT_BYTES = 131_072
/** messages that wait for the next stream; fewer than may be unread when they come all at once */
const WAITING_MESSAGES = LIMITS.unreadMessages / 2

interface Carrier {
  readonly stream: Stream
  readonly items: AsyncGenerator<Item, void, undefined>
  /** bytes of DATA, of the whole call, before the first that this stream carries */
  readonly dataBefore: number
}

export interface KeptStreamOptions {
  readonly whenFull: WhenFull
  /** its session is gone: another stream may be attached */
  onLost(): void
  /** ended, reset, or failed: nothing can be attached any more */
  onOver(): void
}

export class KeptStream implements CallStream {
  readonly #options: KeptStreamOptions
  readonly #spool = new Spool()
  readonly #abort = new AbortController()
  #on: Carrier | undefined
  /** position of what is sent next, on this stream; and behind what was ever sent */
  #next = 0
  #sent = 0
  /** positions of messages that this stream carried and that are in the spool */
  #messages: number[] = []
  #received = 0
  #gap = 0
  #answer: Readonly<Record<string, unknown>> | undefined
  #ending = false
  #endedThere = false
  #discarding = false
  #over = false
  #failure: MortarError | undefined
  #waiting: (() => void)[] = []

  constructor(options: KeptStreamOptions) {
    this.#options = options
  }

  /** Aborted when the call was reset by either end or is given up; not while it is merely without a session. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** position up to which the reader has taken what the other end sent */
  get received(): number {
    return this.#received
  }

  get over(): boolean {
    return this.#over
  }

  /**
   * The agent's: carries on over a stream whose OPEN said how much the client has read. A stream that carried until now is
   * reset with going-away. Fails with bad-request when nobody can have read that much, and with what the call failed with.
   */
  attach(stream: Stream, peerReceived: number): void {
    if (peerReceived > this.#sent) throw new MortarError('bad-request', 'more received than sent')
    const before = this.#on
    this.#on = undefined
    before?.stream.reset('going-away')
    if (this.#failure) {
      this.#finish()
      throw this.#failure
    }
    this.#carry(stream, stream.items(), peerReceived)
    this.#begin()
  }

  /** The client's: carries on over a stream that the agent accepted. Fails with protocol-violation or truncated. */
  attachAccepted(
    { stream, items }: Pick<Carrier, 'stream' | 'items'>,
    { from, received }: { from: number; received: number },
  ): void {
    if (from < this.#received || received > this.#sent) throw new MortarError('protocol-violation', 'position')
    if (received < this.#spool.start) throw new MortarError('truncated', 'what the agent lacks is gone')
    this.#gap += from - this.#received
    this.#received = from
    this.#carry(stream, items, received)
    void this.#pump(this.#on as Carrier)
  }

  #carry(stream: Stream, items: Carrier['items'], peerReceived: number): void {
    this.#spool.releaseTo(peerReceived)
    this.#next = this.#spool.start
    this.#messages = []
    this.#on = { stream, items, dataBefore: this.#spool.dataBefore(this.#next) }
    stream.watch((error, cause) => this.#streamOver(stream, error, cause))
    if (this.#discarding) stream.discard()
    this.#notify()
  }

  accept(answer: Readonly<Record<string, unknown>>): void {
    this.#requireOpen()
    this.#answer = answer
    this.#begin()
  }

  /** Once the handler has accepted and a stream is there. */
  #begin(): void {
    if (!this.#on || !this.#answer) return
    this.#on.stream.accept({ ready: this.#answer, from: this.#next, received: this.#received })
    void this.#pump(this.#on)
  }

  async #pump(on: Carrier): Promise<void> {
    try {
      while (this.#on === on) {
        this.#release()
        const piece = this.#spool.at(this.#next)
        if (piece?.type === 'data') {
          // what is under way may arrive, whether or not this stream lives to say so
          this.#sent = Math.max(this.#sent, this.#next + piece.bytes.length)
          await on.stream.write(piece.bytes, piece.lane)
          if (this.#on === on) this.#next += piece.bytes.length
          this.#notify()
        } else if (piece) {
          on.stream.post(piece.body)
          this.#messages.push(this.#next++)
          this.#sent = Math.max(this.#sent, this.#next)
        } else if (this.#ending) return on.stream.end()
        else await this.#changed()
      }
    } catch {
      // the stream is over, which it has told
    }
  }

  /** Forgets what the other end is known to have read: it gave credit for it, or could not hold so many messages unread. */
  #release(): void {
    if (!this.#on) return
    this.#spool.releaseData(this.#on.dataBefore + this.#on.stream.readBytes)
    while (this.#messages.length > LIMITS.unreadMessages) this.#spool.releaseTo((this.#messages.shift() as number) + 1)
  }

  async write(bytes: Uint8Array, lane = 0): Promise<void> {
    this.#requireOpen()
    if (bytes.length === 0) return
    this.#spool.pushData(lane, bytes)
    this.#release()
    if (!this.#on && this.#options.whenFull === 'drop') this.#spool.dropTo(LIMITS.spoolBytes)
    this.#notify()
    while (this.#isFull() && !this.#failure) await this.#changed()
    if (this.#failure) throw this.#failure
  }

  #isFull(): boolean {
    if (this.#on) return this.#spool.end - this.#next > UNSENT_BYTES
    return this.#options.whenFull === 'wait' && this.#spool.bytes > LIMITS.spoolBytes
  }

  /** Fails with limit-exceeded when too many wait for the next session. */
  post(body: Uint8Array, key?: string): void {
    this.#requireOpen()
    if (body.length > LIMITS.messageBytes) throw new MortarError('limit-exceeded', 'message')
    const unsent = this.#on ? this.#next : this.#sent
    if (!this.#on && this.#spool.messagesFrom(unsent) >= WAITING_MESSAGES && key === undefined) {
      throw new MortarError('limit-exceeded', 'messages without a session')
    }
    this.#spool.pushMessage(body, key, unsent)
    this.#notify()
  }

  sendSecret(): void {
    throw new MortarError('internal', 'secrets are not kept')
  }

  end(): void {
    this.#ending = true
    this.#notify()
  }

  reset(code: ErrorCode): void {
    this.fail(new MortarError(code))
  }

  /** Gives the call up; who attaches later is told why. */
  fail(error: MortarError): void {
    if (this.#over || this.#failure) return
    this.#failure = error
    this.#on?.stream.reset(error.code)
    this.#abort.abort(error)
    this.#notify()
  }

  discard(): void {
    this.#discarding = true
    this.#on?.stream.discard()
  }

  async *items(): AsyncGenerator<Item | Gap, void, undefined> {
    for (;;) {
      if (this.#gap > 0) {
        const count = this.#gap
        this.#gap = 0
        yield { type: 'gap', count }
        continue
      }
      const on = this.#on
      if (!on) {
        if (this.#failure) throw this.#failure
        if (this.#endedThere) return
        await this.#changed()
        continue
      }
      const next = await this.#take(on)
      if (next === 'lost') continue
      if (next === 'end') return
      yield next
    }
  }

  /** What comes next on this stream, counted. What it holds when it is lost is sent again, and does not count. */
  async #take(on: Carrier): Promise<Item | 'end' | 'lost'> {
    try {
      const { value: item, done } = await on.items.next()
      if (this.#on !== on) return 'lost'
      if (done || !item) {
        this.#endedThere = true
        return 'end'
      }
      this.#received += item.type === 'data' ? item.bytes.length : 1
      return item
    } catch (thrown) {
      if (this.#on !== on) return 'lost'
      throw thrown
    }
  }

  #streamOver(stream: Stream, error: MortarError | null, cause: StreamEnd): void {
    if (this.#on?.stream !== stream) return
    if (cause === 'lost' && !this.#failure) {
      this.#release()
      this.#on = undefined
      this.#notify()
      return this.#options.onLost()
    }
    if (error && !this.#failure) {
      this.#failure = error
      this.#abort.abort(error)
    }
    this.#finish()
  }

  #finish(): void {
    this.#over = true
    this.#notify()
    this.#options.onOver()
  }

  #requireOpen(): void {
    if (this.#failure) throw this.#failure
    if (this.#ending) throw new MortarError('internal', 'sent after end')
  }

  #changed(): Promise<void> {
    return new Promise(resolve => this.#waiting.push(resolve))
  }

  #notify(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
