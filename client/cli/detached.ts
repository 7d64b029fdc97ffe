/** `mortar exec --detach`, `--attach`, `--list`, `--end`: programs in a VM that nobody waits for. */
import { decodeHex, encodeHex } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { endDetached, listDetached, readDetached, startDetached } from '../programs/detached.ts'
import type { ExecParams } from '../programs/exec.ts'
import { printable } from '../vms/vm.ts'
import type { Context } from './context.ts'
import { exitCodeOfProgram } from './exit-codes.ts'
import { table } from './output.ts'
import { withSession } from './session.ts'
import { writeTo } from './streams.ts'
import type { Arguments, Outcome } from './subcommand.ts'

const GRANTED = { whose: 'granted too' } as const

/** Which of the forms was asked for; undefined: none of them. Fails with usage when several were, or operands do not suit. */
export function detachedForm(given: Arguments): 'detach' | 'attach' | 'list' | 'end' | undefined {
  const forms = (['detach', 'attach', 'list', 'end'] as const).filter(
    name => given.flag(name) || given.text(name) !== undefined,
  )
  const [form] = forms
  if (forms.length > 1) throw new MortarError('usage', `--${forms.join(' and --')} do not go together`)
  const hasProgram = given.operands.length > 1
  if (form && form !== 'detach' && hasProgram) throw new MortarError('usage', `--${form} takes a VM and no program`)
  if ((!form || form === 'detach') && !hasProgram) throw new MortarError('usage', 'which program?')
  return form
}

export async function detach(context: Context, vm: string, params: ExecParams): Promise<Outcome> {
  const host = await context.host()
  const id = encodeHex(await withSession(context, vm, session => startDetached(session, host, params), GRANTED))
  return { json: { id }, text: id }
}

export async function list(context: Context, vm: string): Promise<Outcome> {
  const { programs } = await withSession(context, vm, listDetached, GRANTED)
  const rows = programs.map(({ id, argv, detached, over }) => ({
    id: encodeHex(id),
    state: over ? 'over' : 'running',
    detached,
    argv,
  }))
  const text = table(
    ['id', 'state', 'detached', 'program'],
    rows.map(row => [row.id, row.state, row.detached ? 'yes' : 'no', printable(row.argv.join(' '))]),
  )
  return { json: { programs: rows }, text }
}

export async function attach(context: Context, vm: string, id: string): Promise<Outcome> {
  if (context.globals.json) throw new MortarError('usage', '--attach has no JSON form')
  const host = await context.host()
  const exit = await withSession(
    context,
    vm,
    session =>
      readDetached(session, host, idOf(id), {
        onOutput: (bytes, from) => writeTo(from === 'stdout' ? process.stdout : process.stderr, bytes),
        onGap: byteCount => writeTo(process.stderr, `mortar: ${byteCount} bytes of the oldest output are gone\n`),
      }),
    GRANTED,
  )
  return { exitCode: exitCodeOfProgram(exit) }
}

export async function end(context: Context, vm: string, id: string): Promise<Outcome> {
  const host = await context.host()
  await withSession(context, vm, session => endDetached(session, host, idOf(id)), GRANTED)
  return { json: { id }, text: `${id} has ended` }
}

function idOf(id: string): Uint8Array {
  if (!/^[0-9a-f]{32}$/.test(id)) throw new MortarError('usage', `"${id}" is no id: 32 digits from 0 to f`)
  return decodeHex(id)
}
