/** The owner decides which boot is the VM, when its keys do not prove it. SPEC §2.8 */
import type { Vm } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { openBootSession } from '../sessions/connect.ts'
import { type Candidate, certificateOf } from './boots.ts'
import { type CertifyParts, certify } from './certify.ts'

/**
 * Certifies the boot that the owner chose, whatever proves it or another; all others are not the VM from then on. Fails with
 * vm-unreachable when it is not connected, agent-key-mismatch when it does not hold its keys.
 */
export async function confirmBoot(parts: CertifyParts, vm: Vm, { boot, connected }: Candidate): Promise<void> {
  const { broker, identity, host } = parts
  if (!connected) throw new MortarError('vm-unreachable', `${vm.name}: that boot is not connected`)
  const last = certificateOf(identity.signKey, vm)
  const session = await openBootSession(broker, identity, host, vm, boot, { chosen: true })
  try {
    await certify(parts, vm, { boot, session, last, confirmed: true })
  } finally {
    session.close()
  }
}
