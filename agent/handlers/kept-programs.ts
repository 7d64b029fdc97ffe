/**
 * Programs of kept calls beyond this agent: what is written down at their runner when they start, and how the next agent
 * makes calls of it again. A runner is its user's, so what comes from there says nothing of whose it is: the place does.
 */
import type { Call } from '../../protocol/call.ts'
import type { exec } from '../../protocol/commands/exec.ts'
import { COMMANDS } from '../../protocol/commands/index.ts'
import type { terminal } from '../../protocol/commands/terminal.ts'
import { decodeBase64url } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { bytes, object, z } from '../../protocol/core/schema.ts'
import type { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { ownerRights, type Rights } from '../../protocol/rights.ts'
import { resumeCall } from '../../protocol/session.ts'
import type { Place } from '../guest/place.ts'
import type { Keeping } from '../guest/runner.ts'
import type { LeftProgram } from '../guest/runner-link.ts'
import { supervise } from './supervise.ts'

const memoSchema = object({ id: bytes(16), command: z.enum(['exec', 'terminal']), params: z.unknown() })
/** what an OPEN holds and a little more */
const MEMO_BYTES = LIMITS.messageBytes + 256

/** How the runner is to keep the program of a call; undefined for one that ends with its session. */
export function keepingOf(
  call: Pick<Call<typeof exec | typeof terminal>, 'keptAs' | 'params'>,
  command: 'exec' | 'terminal',
): Keeping | undefined {
  const { keptAs, params } = call
  if (!keptAs) return undefined
  const { id, whenFull, lasts } = keptAs
  return { memo: encodeCbor({ id, command, params }), whenFull: lasts ? 'drop' : whenFull, detached: lasts }
}

/** Makes a kept call of a program that an earlier agent started. Resolves when that is over, or refused. Never fails. */
export async function resumeProgram(kept: KeptCalls, { grantee }: Place, left: LeftProgram): Promise<void> {
  const { program, memo } = left
  try {
    const { id, command: name, params } = decodeCbor(memoSchema, decodeBase64url(memo), MEMO_BYTES, 'bad-request')
    const command = COMMANDS[name]
    const checked: unknown = command.params.parse(params)
    const { taken: received, isOver: isDone } = program
    const call = kept.restore({ id, grantee, command, params: checked, received, isDone })
    // asked again, in full, of whoever comes for it
    const rights: Rights = { ...ownerRights([]), grantee }
    await resumeCall<typeof exec>(call, rights, resumed => supervise(resumed, program))
  } catch {
    program.forget()
  }
}
