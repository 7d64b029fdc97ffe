/**
 * The stream of a kept call: it is carried by one stream after another, of one session after another, and loses nothing
 * between them but what its spool had to drop. Both ends use it. SPEC §8.2
 *
 *    handler or caller ── write, post ──► KeptSender ──► stream of the session that is there
 *                      ◄───────────── items ◄─────────── (or none, until the next attaches)
 */
import type { WhenFull } from '../commands/command.ts'
import { asMortarError, type ErrorCode, MortarError } from '../core/errors.ts'
import type { CallStream, Gap } from '../mux/call-stream.ts'
import type { Item } from '../mux/inbox.ts'
import type { Stream, StreamEnd } from '../mux/stream.ts'
import type { HeldLog } from './held-log.ts'
import { HeldSender } from './held-sender.ts'
import { KeptSender } from './kept-sender.ts'
import type { Sender } from './sender.ts'

interface Carrier {
  readonly stream: Stream
  readonly items: AsyncGenerator<Item, void, undefined>
}

export interface KeptStreamOptions {
  readonly whenFull: WhenFull
  /** client: says END only when it has the agent's, so that its END means that */
  readonly side: 'client' | 'agent'
  /** its session is gone: another stream may be attached */
  onLost(): void
  /** ended, reset, or failed: nothing can be attached any more */
  onOver(): void
  /** a log that it follows is complete */
  onDone?(): void
  /** position up to which an earlier agent's handler had taken what the client sent */
  readonly received?: number
}

export class KeptStream implements CallStream {
  readonly #options: KeptStreamOptions
  /** what was written here, at the client the only sender */
  readonly #written: KeptSender
  #sender: Sender
  readonly #abort = new AbortController()
  readonly #followed = Promise.withResolvers<void>()
  #on: Carrier | undefined
  #received = 0
  #gap = 0
  #answer: Readonly<Record<string, unknown>> | undefined
  #endedThere = false
  #discarding = false
  #over = false
  #failure: MortarError | undefined
  /** a reader waits for the next stream, or for the end */
  #wakeReader = () => {}

  constructor(options: KeptStreamOptions) {
    this.#options = options
    this.#written = new KeptSender(options.whenFull, () => options.side === 'agent' || this.#endedThere)
    this.#sender = this.#written
    this.#followed.promise.catch(() => undefined)
    this.#received = options.received ?? 0
  }

  /** Aborted when the call was reset by either end or is given up; not while it is merely without a session. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  get failed(): boolean {
    return this.#failure !== undefined
  }

  /** whether a stream carries it */
  get carried(): boolean {
    return this.#on !== undefined
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
    if (peerReceived > this.#sender.sent) throw new MortarError('bad-request', 'more received than sent')
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
  attachAccepted({ stream, items }: Carrier, { from, received }: { from: number; received: number }): void {
    if (this.#failure) {
      // given up while nobody could be told
      stream.reset(this.#failure.code)
      return this.#finish()
    }
    if (from < this.#received || received > this.#sender.sent) throw new MortarError('protocol-violation', 'position')
    if (received < this.#written.start) throw new MortarError('truncated', 'what the agent lacks is gone')
    this.#gap += from - this.#received
    this.#received = from
    this.#carry(stream, items, received)
    // not there when the stream broke meanwhile
    if (this.#on) void this.#sender.pump()
  }

  #carry(stream: Stream, items: Carrier['items'], peerReceived: number): void {
    this.#sender.use(stream, peerReceived)
    this.#on = { stream, items }
    if (this.#discarding) stream.discard()
    stream.watch((error, cause) => this.#streamOver(stream, error, cause))
    this.#wakeReader()
  }

  /** The stream carries no more. */
  #letGo(): void {
    this.#sender.letGo()
    this.#received += this.#on?.stream.discarded ?? 0
    this.#on = undefined
  }

  accept(answer: Readonly<Record<string, unknown>>): void {
    this.#sender.requireOpen()
    this.#answer = answer
    this.#begin()
  }

  /** Accepts; what is sent is what the log holds. Resolves when the call is over; fails with what it failed with. */
  follow(log: HeldLog, answer: Readonly<Record<string, unknown>>): Promise<void> {
    this.#sender.requireOpen()
    this.#answer = answer
    this.#sender = new HeldSender(log, error => this.fail(error))
    // nothing was sent before, so nobody has read anything
    if (this.#on) this.#sender.use(this.#on.stream, 0)
    this.#begin()
    log.over.then(
      () => this.#options.onDone?.(),
      thrown => this.fail(asMortarError(thrown)),
    )
    return this.#followed.promise
  }

  /** Once the handler has accepted and a stream is there. */
  #begin(): void {
    const on = this.#on
    const answer = this.#answer
    if (!on || !answer) return
    const go = (from: number) => {
      if (this.#on !== on) return
      on.stream.accept({ ready: answer, from, received: this.received })
      void this.#sender.pump()
    }
    const from = this.#sender.begin()
    // when the log fails, so does the call, which its sender says; when another stream took over, that one is answered
    if (typeof from === 'number') go(from)
    else from.then(go).catch(() => undefined)
  }

  write(bytes: Uint8Array, lane = 0): Promise<void> {
    return this.#sender.write(bytes, lane)
  }

  post(body: Uint8Array, key?: string): void {
    this.#sender.post(body, key)
  }

  sendSecret(): void {
    throw new MortarError('internal', 'secrets are not kept')
  }

  end(): void {
    this.#sender.end()
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
    this.#abortWith(error)
    this.#wakeReader()
    if (before && !this.#on) this.#options.onLost()
  }

  #abortWith(error: MortarError): void {
    this.#sender.fail(error)
    this.#followed.reject(error)
    this.#abort.abort(error)
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
        await new Promise<void>(resolve => {
          this.#wakeReader = resolve
        })
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
        if (this.#options.side === 'agent' && !this.#sender.ending)
          throw new MortarError('protocol-violation', 'END comes first')
        this.#endedThere = true
        this.#sender.changed()
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
      return this.#options.onLost()
    }
    if (error && !this.#failure) {
      this.#failure = error
      this.#abortWith(error)
    }
    this.#finish()
  }

  #finish(): void {
    this.#over = true
    this.#followed.resolve()
    this.#wakeReader()
    this.#options.onOver()
  }
}
