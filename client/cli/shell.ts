/** `mortar shell`: this terminal becomes one in the VM until the shell there ends. */
import { terminal as command } from '../../protocol/commands/terminal.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { about } from '../errors/name-error.ts'
import { sleep } from '../host/clock.ts'
import { enterRawMode } from '../node/raw-terminal.ts'
import { openTerminal, type Terminal } from '../programs/terminal.ts'
import { exitCodeOfProgram } from './exit-codes.ts'
import { DEFAULT_USER, requireValid } from './params.ts'
import { withSession } from './session.ts'
import { writeTo } from './streams.ts'
import type { Action } from './subcommand.ts'

const LARGEST_SIDE = 1000
/** Ctrl-C */
const INTERRUPT = 0x03
/** Ctrl-D: what the end of the input means to a shell */
const END_OF_INPUT = Uint8Array.of(0x04)

/** ms between two Ctrl-D: the first may come before the shell reads, and the next ends what it has started */
const REPEAT_MS = 1_000
/** ms without a word, after the end of the input, before the terminal is hung up */
const PATIENCE_MS = 60_000
/** exit code of a program ended by SIGHUP */
const HUNG_UP = 129
/** signals at which this program ends, and with it the shell if the VM can be told */
const HANG_UPS = ['SIGHUP', 'SIGTERM'] as const

export const shell: Action = async (context, given) => {
  if (context.globals.json) throw new MortarError('usage', 'a shell has no JSON form; use: mortar exec --json')
  const watch: Watch = { heardMs: 0, over: false, hungUp: false, lost: false }
  return withSession(
    context,
    given.operand(0),
    async (session, vm) => {
      const user = given.text('user')
      const more = { 'user-unknown': user ?? DEFAULT_USER }
      return { exitCode: await about(`a shell in ${vm.name}`, () => run(session, user, watch), more) }
    },
    {
      whose: 'granted too',
      onLost() {
        watch.lost = true
        context.progress.note(
          'If the VM runs, the shell goes on there. Ctrl-C stops waiting for it: it then ends there after an hour.',
        )
      },
      onBack() {
        watch.lost = false
      },
    },
  )
}

async function run(session: ClientSession, user: string | undefined, watch: Watch): Promise<number> {
  const { stdin, stdout, env } = process
  const term = env.TERM && /^[A-Za-z0-9.+-]{1,32}$/.test(env.TERM) ? { term: env.TERM } : {}
  const params = requireValid(command.params, { ...sizeOf(stdout), ...(user === undefined ? {} : { user }), ...term })
  const terminal = await openTerminal(session, params, bytes => {
    watch.heardMs = Date.now()
    return writeTo(stdout, bytes)
  })
  const onResize = () => {
    const { cols, rows } = sizeOf(stdout)
    terminal.resize(cols, rows)
  }
  // the window was closed: the shell there is to end, not to wait for somebody to come back; while the connection is
  // lost nobody can say so there, and it waits for its hour
  const onHangUp = () => giveUp(terminal, watch)
  for (const signal of HANG_UPS) process.on(signal, onHangUp)
  const leaveRawMode = stdin.isTTY ? enterRawMode(stdin) : () => {}
  stdout.on('resize', onResize)
  try {
    void passKeys(terminal, watch).then(() => endInput(terminal, watch))
    return exitCodeOfProgram(await terminal.ended)
  } catch (thrown) {
    if (watch.hungUp) return HUNG_UP
    throw thrown
  } finally {
    watch.over = true
    stdout.off('resize', onResize)
    for (const signal of HANG_UPS) process.off(signal, onHangUp)
    leaveRawMode()
    stdin.pause()
  }
}

function sizeOf(stdout: NodeJS.WriteStream): { cols: number; rows: number } {
  const side = (value: number | undefined, fallback: number) => Math.min(LARGEST_SIDE, Math.max(1, value || fallback))
  return { cols: side(stdout.columns, 80), rows: side(stdout.rows, 24) }
}

/** Sends what is typed; one write at a time, so that a pasted novel waits here. */
async function passKeys(terminal: Terminal, watch: Watch): Promise<void> {
  try {
    for await (const keys of process.stdin as AsyncIterable<Buffer>) {
      if (watch.lost && keys.includes(INTERRUPT)) giveUp(terminal, watch)
      await terminal.write(keys)
    }
  } catch {
    // the session is over, which `ended` tells
  }
}

/** Hangs up and ends this program. Without a connection the VM is not told: the shell there ends after LIMITS.keptMs. */
function giveUp(terminal: Terminal, watch: Watch): void {
  watch.hungUp = true
  terminal.close()
}

interface Watch {
  /** when output last came, ms */
  heardMs: number
  over: boolean
  hungUp: boolean
  /** there is no session at the moment */
  lost: boolean
}

/**
 * After the end of the input: Ctrl-D until the shell has ended, and a hang-up when something that takes none, such as an
 * editor, says nothing for long.
 */
async function endInput(terminal: Terminal, watch: Watch): Promise<void> {
  watch.heardMs = Date.now()
  while (!watch.over && Date.now() - watch.heardMs < PATIENCE_MS) {
    // not awaited: where nobody reads the keys it would be for ever
    void terminal.write(END_OF_INPUT).catch(() => undefined)
    await sleep(REPEAT_MS)
  }
  if (!watch.over) giveUp(terminal, watch)
}
