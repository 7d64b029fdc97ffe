/** What to do about an error, where more is known here than its row in the table of errors can say. */
import { dirname, join } from 'node:path'
import { type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import type { Globals } from './context.ts'

/** An error with advice of its own, such as one that names a VM. */
export class AdvisedError extends MortarError {
  readonly #todo: string

  constructor(code: ErrorCode, detail: string, todo: string, options?: { cause?: unknown }) {
    super(code, detail, options)
    this.#todo = todo
  }

  override get todo(): string {
    return this.#todo
  }
}

/** `globals`: what of the global options is known. */
export function adviceOn(error: MortarError, { identity, passphraseFile }: Partial<Globals>): string {
  if (error.code === 'broker-mismatch' && identity !== undefined) {
    const known = join(dirname(identity), 'known-brokers.json')
    return `If it was set up anew on purpose, remove its line from ${known}; if not, do not use it`
  }
  if (error.code === 'identity-locked' && passphraseFile !== undefined) {
    return `Put the right passphrase into ${passphraseFile}`
  }
  return error.todo
}
