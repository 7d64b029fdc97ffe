/**
 * The half of a kept call that sends what a HeldLog holds: it reads the log at the pace of whichever stream is there, and
 * releases what the client has read. Nothing of it is kept here, so nothing is lost with the agent. SPEC §8.2
 */
import { MortarError } from '../core/errors.ts'
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
  #out: Outlet | undefined
  #ending = false
  #failure: MortarError | undefined

  constructor(log: HeldLog) {
    this.#log = log
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
    const reader = await this.#log.open(out.asked)
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

  /** A failure of the log is told by the log itself, one of the stream by the stream. */
  async pump(): Promise<void> {
    const out = this.#out
    if (!out?.reader) return
    try {
      for (;;) {
        const piece = await out.reader.next()
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
