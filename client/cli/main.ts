#!/usr/bin/env node
/** `mortar`, the command-line client: parses, runs one subcommand, prints what it leaves, exits with a code that says how it went. */
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { printable } from '../vms/vm.ts'
import type { Globals } from './context.ts'
import { DEFAULT_BROKER, DEFAULT_IDENTITY } from './defaults.ts'
import { exitCodeOf } from './exit-codes.ts'
import { toJson } from './output.ts'
import { endOnBrokenPipe, writeTo } from './streams.ts'
import { tellError } from './tell-error.ts'

declare const MORTAR_VERSION: string | undefined
const version = typeof MORTAR_VERSION === 'undefined' ? '0.0.0-dev' : MORTAR_VERSION

async function main(argv: readonly string[]): Promise<number> {
  // before parsing it is not known whether the command line asks for JSON properly
  const json = argv.slice(0, argv.includes('--') ? argv.indexOf('--') : undefined).includes('--json')
  let globals: Partial<Globals> = { json }
  try {
    const { parseCommandLine } = await import('./program.ts')
    const { NOUNS, SUBCOMMANDS } = await import('./subcommands.ts')
    const defaults = {
      broker: process.env.MORTAR_BROKER || DEFAULT_BROKER,
      identity: process.env.MORTAR_IDENTITY || DEFAULT_IDENTITY,
    }
    const parsed = await parseCommandLine({ subcommands: SUBCOMMANDS, nouns: NOUNS, version, defaults }, argv)
    if (parsed.kind === 'text') {
      if (json && parsed.exitCode !== 0) throw new MortarError('usage', 'no command was given')
      await writeTo(parsed.exitCode === 0 ? process.stdout : process.stderr, parsed.text)
      return parsed.exitCode
    }
    const { Context } = await import('./context.ts')
    globals = parsed.globals
    const context = new Context(parsed.globals)
    try {
      const outcome = await (await parsed.subcommand.load())(context, parsed.given)
      if ('exitCode' in outcome) return outcome.exitCode
      const text = parsed.globals.json ? toJson(outcome.json) : printable(outcome.text)
      if (text !== '') await writeTo(process.stdout, text.endsWith('\n') ? text : `${text}\n`)
      return 0
    } finally {
      await context.close()
    }
  } catch (thrown) {
    const error = asMortarError(thrown)
    await writeTo(process.stderr, tellError(error, globals))
    return exitCodeOf(error.code)
  }
}

/** A fault of this program's own, told like any other error. */
function endOnFault(thrown: unknown): void {
  const error = asMortarError(thrown)
  const text = tellError(error, { json: process.argv.includes('--json') })
  process.stderr.write(text, () => process.exit(exitCodeOf(error.code)))
}

if (import.meta.main) {
  endOnBrokenPipe()
  process.on('uncaughtException', endOnFault)
  // sockets that are still closing must not hold up the shell's prompt; all output is written by then
  void main(process.argv.slice(2)).then(code => process.exit(code))
}
