/** Asks before something is lost for good. `--yes` answers for scripts. */
import { MortarError } from '../../protocol/core/errors.ts'
import { printable } from '../vms/vm.ts'
import type { Context } from './context.ts'
import type { Arguments } from './subcommand.ts'

/** Returns once a person or --yes agreed. `question`: what would be lost. Fails with usage when there is nobody to ask, or the answer is no. */
export async function confirm(context: Context, given: Arguments, question: string): Promise<void> {
  if (given.flag('yes')) return
  if (context.globals.json || !process.stdin.isTTY) {
    throw new MortarError('usage', `${question} It was not done: give --yes if you mean it`)
  }
  const { createInterface } = await import('node:readline/promises')
  const terminal = createInterface({ input: process.stdin, output: process.stderr })
  try {
    const answer = await terminal.question(`${printable(question)} [y/N] `)
    if (!/^y(es)?$/i.test(answer.trim())) throw new MortarError('usage', 'not done, as you said')
  } finally {
    terminal.close()
  }
}
