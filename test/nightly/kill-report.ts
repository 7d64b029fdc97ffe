/** What the killing run and its clients tell each other. */

/** Run a program with so many lines, one every so many ms, which exits with `code`. */
export interface Order {
  readonly lines: number
  readonly everyMs: number
  readonly code: number
  /** an argument of the program, by which it is found among all processes */
  readonly tag: string
}

export type Report =
  /** the program's first line came */
  | { readonly kind: 'began' }
  /** every line came once, in order, and the exit status */
  | { readonly kind: 'whole' }
  /** it ended as if in order, and what came is not what was written */
  | { readonly kind: 'wrong'; readonly why: string }
  /** the client was told that it failed */
  | { readonly kind: 'failed'; readonly code: string }
