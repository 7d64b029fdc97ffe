/** Grants as the broker hands them out: nothing is believed that the VM's owner did not sign. SPEC §2.7 */
import type { Vm } from '../../protocol/control/api.ts'
import { checkGrantTime, type Grant, openGrant } from '../../protocol/control/grant.ts'
import { decodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Identity } from '../identity/identity.ts'

/** The grants of a VM, as far as the broker tells of them. Fails with grant-invalid when one is not the owner's. */
export function grantsOf(vm: Vm): Grant[] {
  return vm.grants.map(textual => open(vm, textual))
}

/** The grant that the identity holds at another's VM. Fails with denied, grant-invalid or grant-expired. `nowMs`: ms since 1970. */
export function ownGrant(identity: Identity, vm: Vm, nowMs: number): { grant: Grant; signed: Uint8Array } {
  for (const textual of vm.grants) {
    const grant = open(vm, textual)
    if (!equalBytes(grant.grantee, identity.signKey)) continue
    if (!equalBytes(grant.granteeDh, identity.keys.publicKey)) throw new MortarError('grant-invalid', vm.name)
    checkGrantTime(grant, nowMs)
    return { grant, signed: decodeBase64url(textual) }
  }
  throw new MortarError('denied', `${vm.name} has another owner, and you hold no grant`)
}

function open(vm: Vm, textual: string): Grant {
  let grant: Grant
  try {
    grant = openGrant(decodeBase64url(textual), decodeBase64url(vm.owner))
  } catch (thrown) {
    throw new MortarError('grant-invalid', vm.name, { cause: thrown })
  }
  if (grant.vm !== vm.id) throw new MortarError('grant-invalid', `${vm.name}: it is another VM's`)
  return grant
}
