/** `mortar shell`: this terminal becomes one in the VM until the shell there ends. */
import type { ClientSession } from '../../protocol/session.ts'
import { enterRawMode } from '../node/raw-terminal.ts'
import { openTerminal, type Terminal } from '../terminal.ts'
import { exitCodeOfProgram } from './exit-codes.ts'
import { withSession } from './session.ts'
import { writeTo } from './streams.ts'
import type { Action } from './subcommand.ts'

const LARGEST_SIDE = 1000
/** Ctrl-D: what the end of the input means to a shell */
const END_OF_INPUT = Uint8Array.of(0x04)

export const shell: Action = async (context, given) =>
  withSession(context, given.operand(0), async session => ({
    exitCode: await run(session, given.text('user')),
  }))

async function run(session: ClientSession, user: string | undefined): Promise<number> {
  const { stdin, stdout, env } = process
  const term = env.TERM && /^[A-Za-z0-9.+-]{1,32}$/.test(env.TERM) ? { term: env.TERM } : {}
  const params = { ...sizeOf(stdout), ...(user === undefined ? {} : { user }), ...term }
  const terminal = await openTerminal(session, params, bytes => writeTo(stdout, bytes))
  const onResize = () => {
    const { cols, rows } = sizeOf(stdout)
    terminal.resize(cols, rows)
  }
  const leaveRawMode = stdin.isTTY ? enterRawMode(stdin) : () => {}
  stdout.on('resize', onResize)
  try {
    void passKeys(terminal)
    return exitCodeOfProgram(await terminal.ended)
  } finally {
    stdout.off('resize', onResize)
    leaveRawMode()
    stdin.pause()
  }
}

function sizeOf(stdout: NodeJS.WriteStream): { cols: number; rows: number } {
  const side = (value: number | undefined, fallback: number) => Math.min(LARGEST_SIDE, Math.max(1, value || fallback))
  return { cols: side(stdout.columns, 80), rows: side(stdout.rows, 24) }
}

/** Sends what is typed; one write at a time, so that a pasted novel waits here. */
async function passKeys(terminal: Terminal): Promise<void> {
  try {
    for await (const keys of process.stdin) await terminal.write(keys)
    await terminal.write(END_OF_INPUT)
  } catch {
    // the session is over, which `ended` tells
  }
}
