/** The error of a command whose success only the VM, or whoever else did it, could have told, and did not. */
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'

/** What is known of the parts of it. null: nobody knows; true and false are on the word that the member's name says. */
export type KnownParts = Readonly<Record<string, boolean | string | number | null | readonly string[]>>

export class Unconfirmed extends MortarError {
  /** for programs; `why` is the code of what stood in the way */
  readonly known: KnownParts
  readonly #todo: string

  constructor(detail: string, todo: string, known: KnownParts, cause: unknown) {
    super('unconfirmed', detail, { cause })
    this.known = { ...known, why: asMortarError(cause).code }
    this.#todo = todo
  }

  override get todo(): string {
    return this.#todo
  }
}
