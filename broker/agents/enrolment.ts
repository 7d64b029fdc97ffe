/** Whether an agent's enrolment is taken: the first of a boot is, the same agent again is, everything else is not. SPEC §3.2 */
import { type Enrolment, openEnrolment, type SignedEnrolment } from '../../protocol/control/enrolment.ts'
import { decodeBase64url, decodeHex, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { VmRecord } from '../store/vm-store.ts'

export type Verdict = 'first' | 'again' | 'impostor'

/**
 * Checks signatures and compares with the record. Fails with enrolment-invalid (not proven, or for another launch or
 * brick) or vm-state. `impostor`: proven, but another agent than the enrolled one, or a boot nobody saw.
 */
export function judge(
  signed: SignedEnrolment,
  nonce: Uint8Array,
  recordOf: (vm: string) => VmRecord | undefined,
): { record: VmRecord; enrolment: Enrolment; verdict: Verdict } {
  const enrolment = openEnrolment(signed, nonce, vm => {
    const known = recordOf(vm)
    if (!known) throw new MortarError('enrolment-invalid', `no VM ${vm}`)
    return decodeBase64url(known.commitment)
  })
  const record = recordOf(enrolment.vm)
  if (!record || enrolment.launch !== record.launch) throw new MortarError('enrolment-invalid', 'another launch')
  if (!equalBytes(enrolment.brick, decodeHex(record.brickSha256))) {
    throw new MortarError('enrolment-invalid', 'another brick')
  }
  if (['stopping', 'stopped', 'destroyed'].includes(record.state)) throw new MortarError('vm-state', record.state)
  return { record, enrolment, verdict: compare(record, enrolment) }
}

function compare({ agent, rebootArmed }: VmRecord, enrolment: Enrolment): Verdict {
  if (!agent) return 'first'
  const same =
    agent.boot === enrolment.boot &&
    agent.generation === enrolment.generation &&
    agent.agentDh === encodeBase64url(enrolment.agentDh) &&
    agent.agentSign === encodeBase64url(enrolment.agentSign)
  if (same) return 'again'
  if (rebootArmed && agent.boot !== enrolment.boot && enrolment.generation === agent.generation + 1) return 'first'
  return 'impostor'
}
