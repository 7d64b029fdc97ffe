/** The half of a kept call that sends: from memory (kept-sender.ts), or from a log that outlives the agent (held-sender.ts). SPEC §8.2 */
import type { MortarError } from '../core/errors.ts'
import type { Stream } from '../mux/stream.ts'

export interface Sender {
  /** position beyond which the other end can have read nothing */
  readonly sent: number
  /** END was said, or will be once all is sent */
  readonly ending: boolean
  /** From here on this stream carries what follows `peerReceived`, or what is left of it, once pump() is called. */
  use(stream: Stream, peerReceived: number): void
  /** The position at which the stream goes on. */
  begin(): number | Promise<number>
  /** The stream carries no more. */
  letGo(): void
  /** Sends over the stream that is in use, until it is not or the call ends. */
  pump(): Promise<void>
  /** CallStream's. */
  write(bytes: Uint8Array, lane: number): Promise<void>
  post(body: Uint8Array, key?: string): void
  end(): void
  /** Nothing is sent any more; writers fail with the error. */
  fail(error: MortarError): void
  requireOpen(): void
  /** To be called when it may have become possible to say END. */
  changed(): void
}
