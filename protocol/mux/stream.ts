/** One stream: one conversation in a session, with data, messages and secrets in order, and credit for the data. SPEC §7.2 */
import { encodeText, readUint, writeUint } from '../core/bytes.ts'
import type { Clock } from '../core/clock.ts'
import { encodeCbor } from '../core/codec.ts'
import { type ErrorCode, isErrorCode, MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { wipe } from '../core/secret.ts'
import type { CallStream } from './call-stream.ts'
import type { Frame, FrameType } from './frame.ts'
import { type CountUnread, Inbox, type Item } from './inbox.ts'
import { decodeCredit, encodeCredit, ReceiveWindow, SendWindow, type WindowPool } from './window.ts'

/** What a stream asks of its multiplexer. */
export interface StreamHost {
  sendFrame(type: FrameType, streamId: number, body: Uint8Array, flags?: number): void
  /** in a record of its own, after which the sending key moves on; wipes the body */
  sendSecretFrame(streamId: number, body: Uint8Array): void
  /** bytes of data with which the record that is being filled is full */
  room(): number
  drained(): Promise<void>
  /** whether the session has ended */
  readonly over: boolean
  /** what the windows of all streams may grow by */
  readonly pool: WindowPool
  readonly clock: Clock
  readonly countUnread: CountUnread
  /** a stream got more than its window allows; fails with protocol-violation when that is too often */
  countOverrun(): void
  /** both ends are done with it */
  forget(streamId: number): void
}

/** ended: both directions; reset: by either end; lost: with its session */
export type StreamEnd = 'ended' | 'reset' | 'lost'

export class Stream implements CallStream {
  readonly id: number
  readonly #host: StreamHost
  readonly #sendWindow = new SendWindow()
  readonly #receiveWindow: ReceiveWindow
  readonly #abort = new AbortController()
  readonly #inbox: Inbox
  #sentBytes = 0
  #receivedBytes = 0
  #endedHere = false
  #endedThere = false
  #discarding = false
  #discarded = 0
  #over: StreamEnd | undefined
  #failure: MortarError | undefined
  #writing: Promise<void> = Promise.resolve()
  /** writes, and what waits behind them, that have not gone */
  #underWay = 0
  #onOver: ((error: MortarError | null, cause: StreamEnd) => void) | undefined
  /** end() was called; END goes once the writes before it have */
  #ending = false

  constructor(id: number, host: StreamHost) {
    this.id = id
    this.#host = host
    this.#receiveWindow = new ReceiveWindow(host.pool, () => host.clock.now())
    this.#inbox = new Inbox(host.countUnread)
  }

  /** Aborted when the stream was reset by either end or its session ended; not by a normal end. */
  get signal(): AbortSignal {
    return this.#abort.signal
  }

  /** bytes of DATA sent here that the other end's reader is done with */
  get readBytes(): number {
    return this.#sendWindow.readBytes
  }

  /** the same of messages */
  get readMessages(): number {
    return this.#sendWindow.readMessages
  }

  /** bytes of DATA, and messages, that came and that nobody will read */
  get discarded(): number {
    return this.#discarded
  }

  /** Calls back once, when the stream is over: with null after both ends, with the error after a reset or the session's end. */
  watch(onOver: (error: MortarError | null, cause: StreamEnd) => void): void {
    if (this.#over) onOver(this.#failure ?? null, this.#over)
    else this.#onOver = onOver
  }

  /** Sends data; resolves once the other end's window took it all. Writes are kept in order. Fails with the reset's code. */
  write(bytes: Uint8Array, lane = 0): Promise<void> {
    if (this.#ending) return Promise.reject(new MortarError('internal', 'sent after end'))
    return this.#enqueue(() => this.#write(bytes, lane))
  }

  #enqueue(action: () => Promise<void> | void): Promise<void> {
    this.#underWay++
    const done = this.#writing.then(action).finally(() => {
      this.#underWay--
    })
    this.#writing = done.catch(() => undefined)
    return done
  }

  /** Does it now, or behind the writes that wait for their window. */
  #inOrder(action: () => void): void {
    if (this.#underWay === 0) return action()
    // the session's end is told to those who wait for it, not here
    this.#enqueue(() => {
      if (!this.#failure) action()
    }).catch(() => undefined)
  }

  async #write(bytes: Uint8Array, lane: number): Promise<void> {
    for (let offset = 0; offset < bytes.length; ) {
      if (this.#failure) throw this.#failure
      const taken = await this.#sendWindow.take(Math.min(bytes.length - offset, this.#host.room()))
      if (this.#failure) throw this.#failure
      this.#host.sendFrame('data', this.id, bytes.subarray(offset, offset + taken), lane)
      this.#sentBytes += taken
      offset += taken
      await this.#host.drained()
    }
  }

  /**
   * Sends a message in order with the data written before it, once the other end's window takes it. `body`: CBOR, at most
   * LIMITS.messageBytes.
   */
  post(body: Uint8Array): void {
    this.#checkBody('message', body)
    if (this.#underWay === 0 && this.#sendWindow.takeMessageNow()) return this.#host.sendFrame('message', this.id, body)
    // a failure is told to those who read or write data
    this.send(body).catch(() => undefined)
  }

  /** The same; resolves once it is on its way. Fails with the reset's code. */
  send(body: Uint8Array): Promise<void> {
    return this.#enqueue(async () => {
      await this.#sendWindow.takeMessage()
      this.#host.sendFrame('message', this.id, body)
    })
  }

  accept(answer: Readonly<Record<string, unknown>>): void {
    const body = encodeCbor(answer)
    this.#checkBody('accept', body)
    this.#inOrder(() => this.#host.sendFrame('accept', this.id, body))
  }

  #checkBody(type: 'message' | 'accept', body: Uint8Array): void {
    this.#requireOpen()
    if (body.length > LIMITS.messageBytes) throw new MortarError('limit-exceeded', type)
  }

  /** Sends a secret in a record of its own and wipes it. */
  sendSecret(secret: Uint8Array): void {
    try {
      this.#requireOpen()
      this.#host.sendSecretFrame(this.id, secret)
    } finally {
      wipe(secret)
    }
  }

  /** Half-close: everything written so far, its byte count, and no more from here. May be repeated. */
  end(): void {
    if (this.#ending || this.#failure) return
    this.#ending = true
    this.#inOrder(() => this.#sendEnd())
  }

  #sendEnd(): void {
    this.#endedHere = true
    const body = new Uint8Array(8)
    writeUint(body, 2, 6, this.#sentBytes)
    this.#host.sendFrame('end', this.id, body)
    this.#forgetIfDone()
  }

  /** Ends both directions at once; the other end sees the code. Never fails; may be repeated. */
  reset(code: ErrorCode): void {
    if (this.#failure || (this.#endedHere && this.#endedThere)) return
    if (!this.#host.over) this.#host.sendFrame('reset', this.id, encodeText(code))
    this.fail(new MortarError(code))
  }

  /** Drops what is unread and what may still come, so that a sender nobody listens to is not held up. */
  discard(): void {
    this.#discarding = true
    for (let item = this.#inbox.shift(); item; item = this.#inbox.shift()) this.#settle(item)
  }

  /** Items in order until the other end's END (returns) or a reset (throws its error). One reader only. */
  async *items(): AsyncGenerator<Item, void, undefined> {
    for (;;) {
      const item = this.#inbox.shift()
      if (item) {
        yield item
        this.#giveBack(item)
        continue
      }
      if (this.#failure) throw this.#failure
      if (this.#endedThere) return
      await this.#inbox.changed()
    }
  }

  /** Called by the multiplexer for each frame of this stream. Throws what must end the whole session. */
  receive(frame: Frame): void {
    if (frame.type === 'reset') return this.fail(resetError(frame.body))
    if (frame.type === 'window') return this.#sendWindow.release(decodeCredit(frame.body))
    if (this.#endedThere) throw new MortarError('protocol-violation', 'frame after end')
    if (frame.type === 'end') return this.#receiveEnd(frame.body)
    this.#receiveItem(frame)
  }

  #receiveItem({ type, flags, body }: Frame): void {
    if (type === 'data') {
      if (!this.#receiveWindow.receive(body.length)) return this.#refuseOverrun()
      this.#receivedBytes += body.length
      if (this.#discarding) this.#settle({ type, lane: flags, bytes: body })
      else this.#inbox.pushData(flags, body)
      return
    }
    if (type !== 'secret' && type !== 'message' && type !== 'accept') {
      throw new MortarError('protocol-violation', `frame ${type}`)
    }
    if (!this.#discarding) this.#inbox.push(type, body)
    else if (type === 'message') this.#settle({ type, body })
  }

  #refuseOverrun(): void {
    this.#host.countOverrun()
    this.reset('limit-exceeded')
  }

  #receiveEnd(body: Uint8Array): void {
    if (readUint(body, 2, 6) !== this.#receivedBytes || readUint(body, 0, 2) !== 0) {
      throw new MortarError('truncated', `stream ${this.id}`)
    }
    this.#endedThere = true
    this.#inbox.notify()
    this.#forgetIfDone()
  }

  /** The stream is over for both ends: reset, or, then it is `lost`, the session ended. */
  fail(error: MortarError, cause: 'reset' | 'lost' = 'reset'): void {
    if (this.#failure || (this.#endedHere && this.#endedThere)) return
    this.#failure = error
    this.#sendWindow.fail(error)
    this.#abort.abort(error)
    this.#forget(cause)
  }

  /** What an item needs when nobody reads it. */
  #settle(item: Item): void {
    if (item.type === 'secret') wipe(item.bytes)
    if (item.type === 'data') this.#discarded += item.bytes.length
    if (item.type === 'message') this.#discarded++
    this.#giveBack(item)
  }

  #giveBack(item: Item): void {
    if (item.type !== 'data' && item.type !== 'message') return
    const credit =
      item.type === 'data' ? this.#receiveWindow.consume(item.bytes.length) : this.#receiveWindow.consume(0, 1)
    if (!credit || this.#failure || this.#endedThere) return
    this.#host.sendFrame('window', this.id, encodeCredit(credit))
  }

  #requireOpen(): void {
    if (this.#failure) throw this.#failure
    if (this.#ending) throw new MortarError('internal', 'sent after end')
  }

  #forgetIfDone(): void {
    if (this.#endedHere && this.#endedThere) this.#forget('ended')
  }

  #forget(cause: StreamEnd): void {
    this.#receiveWindow.close()
    this.#inbox.close()
    this.#host.forget(this.id)
    this.#over = cause
    this.#onOver?.(this.#failure ?? null, cause)
  }
}

/** The error of a RESET or GOAWAY body; a code we do not know is not repeated to anyone. */
export function resetError(body: Uint8Array): MortarError {
  const code = String.fromCharCode(...body)
  return isErrorCode(code) ? new MortarError(code) : new MortarError('protocol-violation', 'unknown error code')
}

/** Body of a typed message: its name and what it says. */
export function encodeMessage(name: string, body: unknown): Uint8Array {
  return encodeCbor([name, body ?? null])
}
