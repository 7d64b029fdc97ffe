/** The command line, parsed by commander from the table SUBCOMMANDS. The only file that names commander. */
import { resolve } from 'node:path'
import { Command, CommanderError, Option as CommanderOption } from 'commander'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Globals } from './context.ts'
import type { Arguments, Subcommand } from './subcommand.ts'

/** What the command line asks for: a subcommand with its arguments, or text to print (--help, --version). */
export type Parsed =
  | { readonly kind: 'run'; readonly subcommand: Subcommand; readonly given: Arguments; readonly globals: Globals }
  | { readonly kind: 'text'; readonly text: string; readonly exitCode: number }

type Values = Readonly<Record<string, unknown>>

const GLOBALS = [
  new CommanderOption('--broker <url>', 'address of the broker (or MORTAR_BROKER)'),
  new CommanderOption('--identity <file>', 'identity file (or MORTAR_IDENTITY)'),
  new CommanderOption('--passphrase-file <file>', 'file with the passphrase of the identity'),
  new CommanderOption('--json', 'print JSON, errors too, and no progress'),
  new CommanderOption('--quiet', 'print no progress'),
]

export interface ProgramOptions {
  readonly subcommands: readonly Subcommand[]
  readonly nouns: Readonly<Record<string, string>>
  readonly version: string
  /** what holds unless the command line says otherwise */
  readonly defaults: { readonly broker: string; readonly identity: string }
}

/** Parses a command line (without program and script). Fails with usage. */
export async function parseCommandLine(options: ProgramOptions, argv: readonly string[]): Promise<Parsed> {
  let parsed: Parsed | undefined
  let text = ''
  const take = (chunk: string) => {
    text += chunk
  }
  const program = newCommand('mortar', take)
    .description('Launches VMs whose data only their owner can read, and works in them.')
    .version(options.version, '-V, --version', 'print the version')
    .enablePositionalOptions()
    .addHelpText('after', OVERVIEW)
  const nouns = new Map<string, Command>()
  for (const subcommand of options.subcommands) {
    const words = subcommand.name.split(' ')
    const [noun = '', verb] = words
    let parent = program
    if (verb !== undefined) {
      parent = nouns.get(noun) ?? nounOf(noun, options, take)
      if (!nouns.has(noun)) program.addCommand(parent)
      nouns.set(noun, parent)
    }
    const leaf = leafOf(subcommand, take)
    leaf.action(() => {
      const values = leaf.optsWithGlobals() as Values
      const given = argumentsOf(leaf.args, values)
      parsed = { kind: 'run', subcommand, given, globals: globalsOf(values, options.defaults) }
    })
    parent.addCommand(leaf, { hidden: subcommand.hidden ?? false })
  }
  try {
    await program.parseAsync(argv, { from: 'user' })
  } catch (thrown) {
    return textOf(thrown, text)
  }
  if (!parsed) throw new MortarError('usage', 'no command was given')
  return parsed
}

const OVERVIEW = `
Examples:
  mortar identity create
  mortar vm create first --brick debian-12
  mortar exec first -- uname -a
  mortar drive create data --size 64M && mortar drive attach data first && mortar drive unlock data --format
  mortar ssh first

Exit codes: 0 ok, 1 failed, 2 usage, 3 not found, 4 denied or identity, 5 unreachable or timeout, 6 wrong state, 7 not known to be done.`

function newCommand(name: string, write: (text: string) => void): Command {
  const command = new Command(name)
    .exitOverride()
    .configureOutput({ writeOut: write, writeErr: write, outputError: () => {} })
    .configureHelp({ sortOptions: false })
    .helpOption('-h, --help', 'print this help')
  for (const option of GLOBALS) command.addOption(option)
  return command
}

/** A noun, whose help shows the first example of each of its subcommands. */
function nounOf(noun: string, { nouns, subcommands }: ProgramOptions, write: (text: string) => void): Command {
  const examples = subcommands.filter(({ name }) => name.startsWith(`${noun} `)).map(row => row.examples[0] ?? '')
  return newCommand(noun, write)
    .description(nouns[noun] ?? '')
    .addHelpText('after', examplesText(examples))
}

const examplesText = (examples: readonly string[]) => `\nExamples:\n${examples.map(line => `  ${line}`).join('\n')}`

function leafOf(subcommand: Subcommand, write: (text: string) => void): Command {
  const [name = ''] = subcommand.name.split(' ').slice(-1)
  const leaf = newCommand(name, write).description(subcommand.says)
  for (const operand of subcommand.operands.split(' ').filter(Boolean)) leaf.argument(operand)
  for (const { flags, says, fallback, required, repeated } of subcommand.options) {
    const option = new CommanderOption(flags, required ? `${says} (required)` : says).makeOptionMandatory(
      required ?? false,
    )
    if (repeated) option.argParser((value, before: string[] | undefined) => [...(before ?? []), value])
    leaf.addOption(fallback === undefined ? option : option.default(fallback))
  }
  if (subcommand.passThrough) leaf.passThroughOptions()
  if (subcommand.optionHint) leaf.exitOverride(error => hintAt(error, subcommand.optionHint ?? ''))
  return leaf.addHelpText('after', examplesText(subcommand.examples))
}

/** An unknown option may be meant for another program. Throws. */
function hintAt(error: CommanderError, hint: string): never {
  if (error.code !== 'commander.unknownOption') throw error
  throw new MortarError('usage', `${wordsOf(error)}; ${hint}`, { cause: error })
}

const wordsOf = (error: CommanderError) => error.message.replace(/^error: /, '')

function globalsOf(values: Values, defaults: ProgramOptions['defaults']): Globals {
  const text = (name: string) => (typeof values[name] === 'string' ? (values[name] as string) : undefined)
  const passphraseFile = text('passphraseFile')
  return {
    broker: text('broker') ?? defaults.broker,
    // absolute, since they also go into the configuration of ssh, which is read elsewhere
    identity: resolve(text('identity') ?? defaults.identity),
    passphraseFile: passphraseFile === undefined ? undefined : resolve(passphraseFile),
    json: values.json === true,
    quiet: values.quiet === true,
  }
}

function argumentsOf(operands: readonly string[], values: Values): Arguments {
  const text = (name: string) => (typeof values[name] === 'string' ? (values[name] as string) : undefined)
  return {
    operands,
    operand: index => operands[index] as string,
    text,
    flag: name => values[name] === true,
    list: name => (Array.isArray(values[name]) ? (values[name] as string[]) : []),
    number(name, least, most) {
      const given = text(name) ?? ''
      const value = /^\d{1,9}$/.test(given) ? Number(given) : Number.NaN
      if (value >= least && value <= most) return value
      throw new MortarError('usage', `--${name} needs a whole number from ${least} to ${most}, not "${given}"`)
    },
  }
}

/** Help and version are texts; help for want of a command is a usage error that is told in full. */
function textOf(thrown: unknown, text: string): Parsed {
  if (!(thrown instanceof CommanderError)) throw thrown
  if (thrown.exitCode === 0) return { kind: 'text', text, exitCode: 0 }
  if (thrown.code === 'commander.help') return { kind: 'text', text, exitCode: 2 }
  throw new MortarError('usage', wordsOf(thrown), { cause: thrown })
}
