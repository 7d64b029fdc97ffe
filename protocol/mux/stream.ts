/** One stream: one conversation in a session, with data, messages and secrets in order, and credit for the data. SPEC §7.2 */
import { concat, encodeText, readUint, writeUint } from '../core/bytes.ts'
import { encodeCbor } from '../core/codec.ts'
import { type ErrorCode, isErrorCode, MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { copySecret, wipe } from '../core/secret.ts'
import { type Frame, type FrameType, MOST_DATA_BYTES } from './frame.ts'
import { ReceiveWindow, SendWindow } from './window.ts'

/** bytes of DATA up to which unread pieces are joined */
const JOINED_BYTES = 2_048

export type Item =
  /** what ACCEPT carried */
  | { readonly type: 'accept'; readonly body: Uint8Array }
  /** the reader's own; credit goes back when it asks for the next item */
  | { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
  | { readonly type: 'message'; readonly body: Uint8Array }
  /** wiped by the reader */
  | { readonly type: 'secret'; readonly bytes: Uint8Array }

/** What a stream asks of its multiplexer. */
export interface StreamHost {
  sendFrame(type: FrameType, streamId: number, body: Uint8Array, flags?: number): void
  /** in a record of its own, after which the sending key moves on; wipes the body */
  sendSecretFrame(streamId: number, body: Uint8Array): void
  /** bytes of data with which the record that is being filled is full */
  room(): number
  drained(): Promise<void>
  /** both ends are done with it */
  forget(streamId: number): void
}

export class Stream {
  readonly id: number
  readonly #host: StreamHost
  readonly #sendWindow = new SendWindow()
  readonly #receiveWindow = new ReceiveWindow()
  readonly #abort = new AbortController()
  #items: Item[] = []
  #wake: (() => void) | undefined
  /** of all items but data, which the window limits */
  #unreadMessages = 0
  #sentBytes = 0
  #receivedBytes = 0
  #endedHere = false
  #endedThere = false
  #discarding = false
  #failure: MortarError | undefined
  #writing: Promise<void> = Promise.resolve()
  /** writes, and what waits behind them, that have not gone */
  #underWay = 0
  /** end() was called; END goes once the writes before it have */
  #ending = false

  constructor(id: number, host: StreamHost) {
    this.id = id
    this.#host = host
  }

  /** Aborted when the stream was reset by either end or its session ended; not by a normal end. */
  get signal(): AbortSignal {
    return this.#abort.signal
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

  /** Sends a message in order with the data written before it. `body`: CBOR, at most LIMITS.messageBytes. */
  post(body: Uint8Array): void {
    this.#sendBody('message', body)
  }

  accept(body: Uint8Array): void {
    this.#sendBody('accept', body)
  }

  #sendBody(type: 'message' | 'accept', body: Uint8Array): void {
    this.#requireOpen()
    if (body.length > LIMITS.messageBytes) throw new MortarError('limit-exceeded', type)
    this.#inOrder(() => this.#host.sendFrame(type, this.id, body))
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

  /** Ends both directions at once; the other end sees the code. May be repeated. */
  reset(code: ErrorCode): void {
    if (this.#failure || (this.#endedHere && this.#endedThere)) return
    this.#host.sendFrame('reset', this.id, encodeText(code))
    this.fail(new MortarError(code))
  }

  /** Drops what is unread and what may still come, so that a sender nobody listens to is not held up. */
  discard(): void {
    this.#discarding = true
    for (const item of this.#items.splice(0)) this.#settle(item)
  }

  /** Items in order until the other end's END (returns) or a reset (throws its error). One reader only. */
  async *items(): AsyncGenerator<Item, void, undefined> {
    for (;;) {
      const item = this.#items.shift()
      if (item) {
        if (item.type !== 'data') this.#unreadMessages--
        yield item
        if (item.type === 'data') this.#giveBack(item.bytes.length)
        continue
      }
      if (this.#failure) throw this.#failure
      if (this.#endedThere) return
      await new Promise<void>(resolve => {
        this.#wake = resolve
      })
    }
  }

  /** Called by the multiplexer for each frame of this stream. Throws what must end the whole session. */
  receive(frame: Frame): void {
    if (frame.type === 'reset') return this.fail(resetError(frame.body))
    if (frame.type === 'window') return this.#sendWindow.release(readUint(frame.body, 0, 4))
    if (this.#endedThere) throw new MortarError('protocol-violation', 'frame after end')
    if (frame.type === 'end') return this.#receiveEnd(frame.body)
    this.#receiveItem(frame)
  }

  #receiveItem({ type, flags, body }: Frame): void {
    if (type === 'data') {
      this.#receiveWindow.receive(body.length)
      this.#receivedBytes += body.length
      this.#pushData(flags, body)
      return
    }
    if (type !== 'secret' && type !== 'message' && type !== 'accept') {
      throw new MortarError('protocol-violation', `frame ${type}`)
    }
    if (++this.#unreadMessages > LIMITS.unreadMessages) throw new MortarError('limit-exceeded', 'unread messages')
    this.#push(type === 'secret' ? { type, bytes: copySecret(body) } : { type, body: body.slice() })
  }

  /**
   * Small pieces are copied out of their record and joined, so that a sender of single bytes costs the memory of its
   * window and not that of a record for each of them.
   */
  #pushData(lane: number, bytes: Uint8Array): void {
    const last = this.#items.at(-1)
    const joins = last?.type === 'data' && last.lane === lane && last.bytes.length + bytes.length <= JOINED_BYTES
    if (joins) this.#items[this.#items.length - 1] = { type: 'data', lane, bytes: concat(last.bytes, bytes) }
    else this.#push({ type: 'data', lane, bytes: bytes.length < MOST_DATA_BYTES / 2 ? bytes.slice() : bytes })
  }

  #receiveEnd(body: Uint8Array): void {
    if (readUint(body, 2, 6) !== this.#receivedBytes || readUint(body, 0, 2) !== 0) {
      throw new MortarError('truncated', `stream ${this.id}`)
    }
    this.#endedThere = true
    this.#notify()
    this.#forgetIfDone()
  }

  /** The stream is over for both ends: reset, or the session ended. */
  fail(error: MortarError): void {
    if (this.#failure || (this.#endedHere && this.#endedThere)) return
    this.#failure = error
    this.#sendWindow.fail(error)
    for (const item of this.#items) if (item.type === 'secret') wipe(item.bytes)
    this.#items = this.#items.filter(item => item.type !== 'secret')
    this.#abort.abort(error)
    this.#notify()
    this.#host.forget(this.id)
  }

  #push(item: Item): void {
    if (this.#discarding) this.#settle(item)
    else {
      this.#items.push(item)
      this.#notify()
    }
  }

  /** What an item needs when nobody reads it. */
  #settle(item: Item): void {
    if (item.type !== 'data') this.#unreadMessages--
    if (item.type === 'secret') wipe(item.bytes)
    if (item.type === 'data') this.#giveBack(item.bytes.length)
  }

  #giveBack(byteCount: number): void {
    const credit = this.#receiveWindow.consume(byteCount)
    if (credit === 0 || this.#failure || this.#endedThere) return
    const body = new Uint8Array(4)
    writeUint(body, 0, 4, credit)
    this.#host.sendFrame('window', this.id, body)
  }

  #requireOpen(): void {
    if (this.#failure) throw this.#failure
    if (this.#ending) throw new MortarError('internal', 'sent after end')
  }

  #notify(): void {
    const wake = this.#wake
    this.#wake = undefined
    wake?.()
  }

  #forgetIfDone(): void {
    if (this.#endedHere && this.#endedThere) this.#host.forget(this.id)
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
