/** `mortar exec`: a program in a VM as if it ran here: its input, output, signals and exit code. */
import { exec } from '../../protocol/commands/exec.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { about } from '../errors/name-error.ts'
import {
  collectProgram,
  type ExecParams,
  type ExecStreams,
  type Exit,
  runProgram,
  type SendSignal,
  type SignalName,
} from '../programs/exec.ts'
import type { Context } from './context.ts'
import { attach, detach, detachedForm, end, list } from './detached.ts'
import { execExitCodeOf, exitCodeOfProgram } from './exit-codes.ts'
import { toJson } from './output.ts'
import { DEFAULT_USER, requireValid } from './params.ts'
import { withSession } from './session.ts'
import { writeTo } from './streams.ts'
import type { Action, Arguments } from './subcommand.ts'
import { tellError } from './tell-error.ts'

/** signals that reach this program and are meant for the one in the VM */
const FORWARDED = ['SIGINT', 'SIGTERM', 'SIGHUP', 'SIGQUIT', 'SIGUSR1', 'SIGUSR2'] as const satisfies SignalName[]

/** of both streams; as text in JSON they are held in memory several times */
const LARGEST_JSON_BYTES = 4_194_304

export const execute: Action = async (context, given) => {
  const form = detachedForm(given)
  const [vm, id] = [given.operand(0), given.text('attach') ?? given.text('end') ?? '']
  if (form === 'list') return list(context, vm)
  if (form === 'end') return end(context, vm, id)
  const params = form === 'attach' ? undefined : paramsOf(given)
  try {
    if (!params) return await attach(context, vm, id)
    if (form === 'detach') return await aboutRun(params, () => detach(context, vm, params))
    return { exitCode: await run(context, given, params) }
  } catch (thrown) {
    const error = asMortarError(thrown)
    await writeTo(process.stderr, tellError(error, context.globals))
    return { exitCode: execExitCodeOf(error.code) }
  }
}

function paramsOf(given: Arguments): ExecParams {
  const params: ExecParams = { argv: given.operands.slice(1) }
  const [user, cwd, pairs] = [given.text('user'), given.text('cwd'), given.list('env')]
  if (user !== undefined) params.user = user
  if (cwd !== undefined) params.cwd = cwd
  if (pairs.length > 0) params.env = Object.fromEntries(pairs.map(splitPair))
  return requireValid(exec.params, params)
}

function splitPair(pair: string): [string, string] {
  const equals = pair.indexOf('=')
  if (equals < 1) throw new MortarError('usage', `--env needs NAME=VALUE, not "${pair}"`)
  return [pair.slice(0, equals), pair.slice(equals + 1)]
}

async function run(context: Context, given: Arguments, params: ExecParams): Promise<number> {
  const reads = !process.stdin.isTTY || given.flag('interactive')
  let stopForwarding = () => {}
  const state: State = { lost: false }
  try {
    return await withSession(
      context,
      given.operand(0),
      async session => {
        const streams: Omit<ExecStreams, 'onOutput'> = {
          ...(reads ? { stdin: process.stdin } : {}),
          onRunning(signal) {
            stopForwarding = forwardSignals(signal, state)
          },
        }
        const running = () => (context.globals.json ? tellAtEnd : passOn)(session, params, streams)
        return exitCodeOfProgram(await aboutRun(params, running))
      },
      {
        whose: 'granted too',
        onLost() {
          state.lost = true
          context.progress.note(
            'If the VM runs, the program goes on there for up to an hour. Ctrl-C twice gives it up here.',
          )
        },
        onBack() {
          state.lost = false
        },
      },
    )
  } finally {
    stopForwarding()
  }
}

type Run = (session: ClientSession, params: ExecParams, streams: Omit<ExecStreams, 'onOutput'>) => Promise<Exit>

const passOn: Run = (session, params, streams) =>
  runProgram(session, params, {
    ...streams,
    onOutput: (bytes, from) => writeTo(from === 'stdout' ? process.stdout : process.stderr, bytes),
  })

/** How the program ended and what it wrote, as one line of JSON. Fails with limit-exceeded. */
const tellAtEnd: Run = async (session, params, streams) => {
  const { code, signal, stdout, stderr } = await collectProgram(session, params, LARGEST_JSON_BYTES, streams)
  const texts = [textOf(stdout), textOf(stderr)]
  const [out, err] = texts.includes(null) ? [base64Of(stdout), base64Of(stderr)] : texts
  const encoding = texts.includes(null) ? 'base64' : 'utf-8'
  await writeTo(process.stdout, `${toJson({ code, signal, encoding, stdout: out, stderr: err })}\n`)
  return { code, signal }
}

const base64Of = (bytes: Uint8Array) => Buffer.from(bytes).toString('base64')

/** Null for what is not UTF-8. */
function textOf(bytes: Uint8Array): string | null {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(bytes)
  } catch {
    return null
  }
}

/** An error of which only the code came says what was asked for. */
function aboutRun<T>({ argv, cwd, user }: ExecParams, run: () => Promise<T>): Promise<T> {
  const [program = ''] = argv
  const place = `${cwd === undefined ? '' : ` in ${cwd}`}${user === undefined ? '' : ` as ${user}`}`
  return about(program + place, run, {
    'exec-not-found': program,
    'user-unknown': user ?? DEFAULT_USER,
    'directory-unknown': cwd ?? 'home of the user',
  })
}

/** a person who presses Ctrl-C so often, so fast, wants to be rid of the program whether it or its VM listens or not */
const PRESSES = 3
const PRESSES_MS = 2_000
const INTERRUPTED = 130

/** signals that mean to be rid of the program, and the exit code of one that was ended by them */
const ENDING: Readonly<Partial<Record<SignalName, number>>> = { SIGINT: INTERRUPTED, SIGTERM: 143, SIGHUP: 129 }

interface State {
  /** there is no session at the moment */
  lost: boolean
}

function forwardSignals(signal: SendSignal, state: State): () => void {
  let presses: number[] = []
  let kept = false
  const forward = (name: SignalName) => {
    const code = ENDING[name]
    // the first is kept for the program; who sends another does not want to wait for the VM
    if (state.lost && code !== undefined) {
      if (kept) process.exit(code)
      kept = true
    }
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
