/** What a program said in a kept call, where it is held by somebody who outlives the agent. SPEC §8.2 */

export type HeldPiece =
  | { readonly type: 'data'; readonly lane: number; readonly bytes: Uint8Array }
  | { readonly type: 'message'; readonly body: Uint8Array }

export interface HeldReader {
  /** position of the first piece: what was asked for, or later when the oldest was dropped */
  readonly from: number
  /** The next piece; null behind the last. Credit for it goes back when the next is asked for. Fails with runner-lost. */
  next(): Promise<HeldPiece | null>
  /** Reads no more. May be repeated. */
  close(): void
}

export interface HeldLog {
  /** position beyond which nobody can have read */
  readonly end: number
  /** Resolves when its end is known, whether or not it was read. Fails with runner-lost. */
  readonly over: Promise<void>
  /** Reads from a position on; another reader is closed by it. Fails with runner-lost. */
  open(from: number): Promise<HeldReader>
  /** What lies before the position was read and is not needed any more. */
  release(position: number): void
}
