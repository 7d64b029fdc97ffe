/**
 * The half of a kept call that sends what a HeldLog holds: it reads the log at the pace of whichever stream is there, and
 * releases what the client has read. Nothing of it is kept here, so nothing is lost with the agent. SPEC §8.2
 */
import { asMortarError, MortarError } from '../core/errors.ts'
import type { Stream } from '../mux/stream.ts'
import type { HeldLog, HeldReader } from './held-log.ts'
import type { Sender } from './sender.ts'

interface Outlet {
  readonly stream: Stream
  /** position at which the log is to be read */
  readonly asked: number
  /** undefined until it is opened */
  reader?: HeldReader
}

export class HeldSender implements Sender {
  readonly #log: HeldLog
  readonly #onFailed: (error: MortarError) => void
  #out: Outlet | undefined
  #ending = false
  #failure: MortarError | undefined

  /** `onFailed`: the log cannot be read any more, though its program may have ended in order. */
  constructor(log: HeldLog, onFailed: (error: MortarError) => void) {
    this.#log = log
    this.#onFailed = onFailed
  }

  get sent(): number {
    return this.#log.end
  }

  get ending(): boolean {
    return this.#ending
  }

  use(stream: Stream, peerReceived: number): void {
    this.#log.release(peerReceived)
    this.#out = { stream, asked: peerReceived }
  }

  async begin(): Promise<number> {
    const out = this.#out
    if (!out) throw new MortarError('internal', 'no stream')
    const reader = await this.#reading(out, this.#log.open(out.asked))
    if (this.#out === out) out.reader = reader
    else reader.close()
    return reader.from
  }

  letGo(): void {
    const { reader } = this.#out ?? {}
    this.#release()
    this.#out = undefined
    reader?.close()
  }

  /** What fails for the stream that is there fails the call; what fails since another took over is nothing. */
  async #reading<T>(out: Outlet, reading: Promise<T>): Promise<T> {
    try {
      return await reading
    } catch (thrown) {
      const error = asMortarError(thrown)
      if (this.#out === out && error.code !== 'going-away') this.#onFailed(error)
      throw thrown
    }
  }

  /** A failure of the stream is told by the stream. */
  async pump(): Promise<void> {
    const out = this.#out
    if (!out?.reader) return
    try {
      for (;;) {
        const piece = await this.#reading(out, out.reader.next())
        if (this.#out !== out) return
        if (!piece) break
        if (piece.type === 'data') await out.stream.write(piece.bytes, piece.lane)
        else await out.stream.send(piece.body)
        if (this.#out !== out) return
        this.#release()
      }
      this.#ending = true
      out.stream.end()
    } catch {
      // told where it happened
    }
  }

  /** A log is data and, last, one message. */
  #release(): void {
    const { stream, reader } = this.#out ?? {}
    if (stream && reader) this.#log.release(reader.from + stream.readBytes + stream.readMessages)
  }

  write(): Promise<void> {
    throw new MortarError('internal', 'the log is what is sent')
  }

  post(): void {
    throw new MortarError('internal', 'the log is what is sent')
  }

  end(): void {
    this.#ending = true
  }

  fail(error: MortarError): void {
    this.#failure = error
    this.letGo()
  }

  requireOpen(): void {
    if (this.#failure) throw this.#failure
  }

  changed(): void {}
}
