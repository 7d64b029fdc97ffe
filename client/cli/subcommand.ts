/** What a subcommand is: a row of the table SUBCOMMANDS, whose code is loaded only when it runs. */
import type { Context } from './context.ts'

export interface Option {
  /** as shown by --help: `--size <size>`, `-i, --interactive`, `--env <name=value>` */
  readonly flags: string
  readonly says: string
  /** shown by --help and used when the option is absent */
  readonly fallback?: string
  readonly required?: boolean
  /** may be given more than once; read with list() */
  readonly repeated?: boolean
}

/** What was given on the command line, read by name. */
export interface Arguments {
  /** operands in order, such as the VM */
  readonly operands: readonly string[]
  operand(index: number): string
  text(name: string): string | undefined
  flag(name: string): boolean
  list(name: string): readonly string[]
  /** Whole number of an option that has a fallback. Fails with usage outside `least` to `most`. */
  number(name: string, least: number, most: number): number
}

/** What a subcommand leaves: something to print, in both forms, or only the exit code of what it ran. */
export type Outcome = { readonly json: object; readonly text: string } | { readonly exitCode: number }

export type Action = (context: Context, given: Arguments) => Promise<Outcome>

export interface Subcommand {
  /** `vm create` */
  readonly name: string
  /** operands as --help shows them: `<vm> [argv...]` */
  readonly operands: string
  readonly says: string
  readonly options: readonly Option[]
  readonly examples: readonly string[]
  /** what follows the first operand belongs to another program, options included */
  readonly passThrough?: boolean
  /** said with an unknown option */
  readonly optionHint?: string
  /** started by programs, not by people */
  readonly hidden?: boolean
  load(): Promise<Action>
}
