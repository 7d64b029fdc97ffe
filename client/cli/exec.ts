/** `mortar exec`: a program in a VM as if it ran here: its input, output, signals and exit code. */
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { type ExecParams, runProgram, type SendSignal, type SignalName } from '../exec.ts'
import type { Context } from './context.ts'
import { execExitCodeOf, exitCodeOfProgram } from './exit-codes.ts'
import { withSession } from './session.ts'
import { writeTo } from './streams.ts'
import type { Action, Arguments } from './subcommand.ts'
import { tellError } from './tell-error.ts'

/** signals that reach this program and are meant for the one in the VM */
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const satisfies SignalName[]

export const execute: Action = async (context, given) => {
  const params = paramsOf(given)
  try {
    return { exitCode: await run(context, given, params) }
  } catch (thrown) {
    const error = asMortarError(thrown)
    await writeTo(process.stderr, tellError(error, context.globals.json))
    return { exitCode: execExitCodeOf(error.code) }
  }
}

function paramsOf(given: Arguments): ExecParams {
  const params: ExecParams = { argv: given.operands.slice(1) }
  const [user, cwd, pairs] = [given.text('user'), given.text('cwd'), given.list('env')]
  if (user !== undefined) params.user = user
  if (cwd !== undefined) params.cwd = cwd
  if (pairs.length > 0) params.env = Object.fromEntries(pairs.map(splitPair))
  return params
}

function splitPair(pair: string): [string, string] {
  const equals = pair.indexOf('=')
  if (equals < 1) throw new MortarError('usage', `--env needs NAME=VALUE, not "${pair}"`)
  return [pair.slice(0, equals), pair.slice(equals + 1)]
}

async function run(context: Context, given: Arguments, params: ExecParams): Promise<number> {
  const reads = !process.stdin.isTTY || given.flag('interactive')
  let stopForwarding = () => {}
  try {
    return await withSession(context, given.operand(0), async session => {
      const exit = await runProgram(session, params, {
        ...(reads ? { stdin: process.stdin } : {}),
        onOutput: (bytes, from) => writeTo(from === 'stdout' ? process.stdout : process.stderr, bytes),
        onRunning(signal) {
          stopForwarding = forwardSignals(signal)
        },
      })
      return exitCodeOfProgram(exit)
    })
  } finally {
    stopForwarding()
  }
}

/** a person who presses Ctrl-C so often, so fast, wants to be rid of the program whether it or its VM listens or not */
const PRESSES = 3
const PRESSES_MS = 2_000
const INTERRUPTED = 130

function forwardSignals(signal: SendSignal): () => void {
  let presses: number[] = []
  const forward = (name: SignalName) => {
    presses = name === 'SIGINT' ? [...presses.slice(1 - PRESSES), Date.now()] : presses
    const [first = 0] = presses
    if (presses.length === PRESSES && Date.now() - first < PRESSES_MS) process.exit(INTERRUPTED)
    signal(name)
  }
  const listeners = FORWARDED.map(name => [name, () => forward(name)] as const)
  for (const [name, listener] of listeners) process.on(name, listener)
  return () => {
    for (const [name, listener] of listeners) process.off(name, listener)
  }
}
