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
/** messages that wait for credit or for the next stream */
const WAITING_MESSAGES = 1_000

interface Carrier {
  readonly stream: Stream
  readonly items: AsyncGenerator<Item, void, undefined>
  /** bytes of DATA, and messages, of the whole call before the first that this stream carries */
  readonly before: { readonly data: number; readonly messages: number }
}

export interface KeptStreamOptions {
  readonly whenFull: WhenFull
  /** client: says END only when it has the agent's, so that its END means that */
  readonly side: 'client' | 'agent'
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
  /** position of what is sent next on this stream, and behind what may have left */
  #next = 0
  #sent = 0
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

  get failed(): boolean {
    return this.#failure !== undefined
  }

  /** position up to which the reader has taken what the other end sent */
  get received(): number {
    return this.#received + (this.#on?.stream.discarded ?? 0)
  }

  /**
   * The agent's: carries on over a stream whose OPEN said how much the client has read. A stream that carried until now is
   * reset with going-away. Fails with bad-request when nobody can have read that much, and with what the call failed with.
   */
  attach(stream: Stream, peerReceived: number): void {
    if (peerReceived > this.#sent) throw new MortarError('bad-request', 'more received than sent')
    const before = this.#on
    this.#letGo()
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
    if (this.#failure) {
      // given up while nobody could be told
      stream.reset(this.#failure.code)
      return this.#finish()
    }
    if (from < this.#received || received > this.#sent) throw new MortarError('protocol-violation', 'position')
    if (received < this.#spool.start) throw new MortarError('truncated', 'what the agent lacks is gone')
    this.#gap += from - this.#received
    this.#received = from
    this.#carry(stream, items, received)
    // not there when the stream broke meanwhile
    if (this.#on) void this.#pump(this.#on)
  }

  #carry(stream: Stream, items: Carrier['items'], peerReceived: number): void {
    this.#spool.releaseTo(peerReceived)
    // what the other end never got may still be numbered anew
    this.#next = this.#sent = this.#spool.start
    this.#on = { stream, items, before: this.#spool.before(this.#next) }
    if (this.#discarding) stream.discard()
    stream.watch((error, cause) => this.#streamOver(stream, error, cause))
    this.#notify()
  }

  /** The stream carries no more. */
  #letGo(): void {
    this.#release()
    this.#received += this.#on?.stream.discarded ?? 0
    this.#on = undefined
  }

  accept(answer: Readonly<Record<string, unknown>>): void {
    this.#requireOpen()
    this.#answer = answer
    this.#begin()
  }

  /** Once the handler has accepted and a stream is there. */
  #begin(): void {
    if (!this.#on || !this.#answer) return
    this.#on.stream.accept({ ready: this.#answer, from: this.#next, received: this.received })
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
          this.#sent = Math.max(this.#sent, this.#next + 1)
          await on.stream.send(piece.body)
          if (this.#on === on) this.#next++
        } else if (this.#ending && (this.#options.side === 'agent' || this.#endedThere)) return on.stream.end()
        else await this.#changed()
      }
    } catch {
      // the stream is over, which it has told
    }
  }

  /** Forgets what the other end is known to have read, since it gave credit for it. */
  #release(): void {
    if (!this.#on) return
    const { before, stream } = this.#on
    this.#spool.releaseRead(before.data + stream.readBytes, before.messages + stream.readMessages)
  }

  async write(bytes: Uint8Array, lane = 0): Promise<void> {
    this.#requireOpen()
    if (bytes.length === 0) return
    this.#spool.pushData(lane, bytes)
    if (!this.#on && this.#options.whenFull === 'drop') this.#spool.bound()
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
    if (this.#spool.messagesFrom(this.#sent) >= WAITING_MESSAGES && key === undefined) {
      throw new MortarError('limit-exceeded', 'messages that wait')
    }
    this.#spool.pushMessage(body, key, this.#sent)
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

  /** Gives the call up; who attaches later is told why, for a RESET may be lost with its socket. */
  fail(error: MortarError): void {
    if (this.#over || this.#failure) return
    this.#failure = error
    const before = this.#on
    if (this.#options.side === 'agent') this.#letGo()
    before?.stream.reset(error.code)
    this.#spool.releaseTo(this.#spool.end)
    this.#abort.abort(error)
    this.#notify()
    if (before && !this.#on) this.#options.onLost()
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
      if (next === 'end') return
      if (next !== 'lost') yield next
    }
  }

  /** What comes next on this stream, counted. What it holds when it is lost is sent again, and does not count. */
  async #take(on: Carrier): Promise<Item | 'end' | 'lost'> {
    try {
      const { value: item, done } = await on.items.next()
      if (this.#on !== on) return 'lost'
      if (done || !item) {
        // a client that ended first could not say later that it has all of what the agent said
        if (this.#options.side === 'agent' && !this.#ending)
          throw new MortarError('protocol-violation', 'END comes first')
        this.#endedThere = true
        this.#notify()
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
      this.#letGo()
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

  readonly #changed = () => new Promise<void>(resolve => this.#waiting.push(resolve))

  #notify(): void {
    for (const resolve of this.#waiting.splice(0)) resolve()
  }
}
