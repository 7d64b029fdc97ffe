/** TYPES FIRST (implementation follows): one conversation in a session. */
import type { ErrorCode } from '../core/errors.ts'

export type Item =
  /** the bytes are the reader's own; credit is given back when the reader asks for the next item */
  | { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
  | { readonly type: 'message'; readonly name: string; readonly body: unknown }
  /** wiped by the reader */
  | { readonly type: 'secret'; readonly bytes: Uint8Array }

export interface Stream {
  readonly id: number
  /** Sends data; resolves once the other end's window took it all. Fails when the stream was reset. */
  write(bytes: Uint8Array, lane?: number): Promise<void>
  /** Sends a small typed message, in order with data; needs no credit. */
  post(name: string, body: unknown): void
  /** Sends a secret in a record of its own and wipes `bytes`. */
  sendSecret(bytes: Uint8Array): Promise<void>
  /** Half-close: no more from this end. */
  end(): void
  /** Ends both directions at once; the other end sees the code. */
  reset(code: ErrorCode): void
  /** Items in order until the other end's END (returns) or a reset (throws its MortarError). One reader only. */
  items(): AsyncGenerator<Item, void, undefined>
  /** Aborted when the stream was reset or the session ended; not by a normal end. */
  readonly signal: AbortSignal
}
