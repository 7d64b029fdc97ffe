/** Runs a program in a VM: stdin, stdout, stderr and signals as separate things, and how it ended. SPEC §9.2 */
import type { ClientCall } from '../../protocol/call.ts'
import type { Params, ToAgentBody } from '../../protocol/commands/command.ts'
import { exec, STDERR } from '../../protocol/commands/exec.ts'
import { concat } from '../../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'

export type ExecParams = Params<typeof exec>
export type SignalName = ToAgentBody<typeof exec, 'signal'>['name']

/** How a program ended: exit status, or the name of the signal that ended it. */
export interface Exit {
  readonly code: number | null
  readonly signal: string | null
}

export interface ExecStreams {
  /** what the program reads; nothing unless given */
  readonly stdin?: AsyncIterable<Uint8Array>
  /** takes output; the next comes once it resolves, so a slow taker slows the program */
  onOutput(bytes: Uint8Array, from: 'stdout' | 'stderr'): void | Promise<void>
  /** handed over once the program runs */
  onRunning?(signal: SendSignal): void
}

async function* nothing(): AsyncGenerator<Uint8Array> {}

/** Sends the program a signal; false when it is over. */
export type SendSignal = (name: SignalName) => boolean

/** Runs a program to its end. Fails with exec-not-found, exec-failed, user-unknown, denied, truncated, connection-lost. */
export async function runProgram(session: ClientSession, params: ExecParams, streams: ExecStreams): Promise<Exit> {
  const call = await session.open(exec, params)
  let exit: Exit | undefined
  streams.onRunning?.(name => {
    if (exit || call.signal.aborted) return false
    try {
      call.post('signal', { name })
      return true
    } catch {
      // the session ended in this moment, which the reading half tells
      return false
    }
  })
  let inputFailure: MortarError | undefined
  feed(call, streams.stdin).catch(thrown => {
    inputFailure = asMortarError(thrown)
    // the program would wait for the rest of its input for ever, or take a part for the whole
    if (!exit) call.reset('truncated')
  })
  try {
    for await (const item of call.received()) {
      if (item.type === 'message') exit = item.body
      else await streams.onOutput(item.bytes, item.lane === STDERR ? 'stderr' : 'stdout')
    }
  } catch (thrown) {
    // a taker that fails must not leave the program running unseen
    call.reset('connection-lost')
    throw inputFailure ?? thrown
  }
  if (!exit) throw inputFailure ?? new MortarError('truncated', 'the program ended without saying how')
  return exit
}

/** Sends stdin and then its end, not the stream's: signals may follow. Fails when stdin cannot be read. */
async function feed(call: ClientCall<typeof exec>, stdin: AsyncIterable<Uint8Array> = nothing()): Promise<void> {
  for await (const bytes of stdin) if (!(await sent(() => call.write(bytes)))) return
  await sent(() => call.post('eof', {}))
}

/** False when the program takes no more; why is told by the reading half. */
async function sent(send: () => void | Promise<void>): Promise<boolean> {
  try {
    await send()
    return true
  } catch {
    return false
  }
}

export interface ProgramOutput extends Exit {
  readonly stdout: Uint8Array
  readonly stderr: Uint8Array
}

/** Runs a program and collects its output. Fails with limit-exceeded when there is more than `limitBytes` of it. */
export async function collectProgram(
  session: ClientSession,
  params: ExecParams,
  limitBytes = 4_194_304,
  streams: Omit<ExecStreams, 'onOutput'> = {},
): Promise<ProgramOutput> {
  const parts = { stdout: [] as Uint8Array[], stderr: [] as Uint8Array[] }
  let length = 0
  const exit = await runProgram(session, params, {
    ...streams,
    onOutput(bytes, from) {
      length += bytes.length
      if (length > limitBytes) throw new MortarError('limit-exceeded', `more than ${limitBytes} bytes of output`)
      parts[from].push(bytes)
    },
  })
  return { ...exit, stdout: concat(...parts.stdout), stderr: concat(...parts.stderr) }
}
