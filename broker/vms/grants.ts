/** Grants at the broker: kept for their holders, checked so that a mistake shows early, believed by no agent. SPEC §2.7 */
import { checkGrantTime, type Grant, openGrant } from '../../protocol/control/grant.ts'
import type { Permission } from '../../protocol/control/roles.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { GrantRecord, GrantStore } from '../store/grant-store.ts'
import type { VmRecord } from '../store/vm-store.ts'

export class Grants {
  readonly #store: GrantStore
  readonly #clock: Clock

  constructor(store: GrantStore, clock: Clock) {
    this.#store = store
    this.#clock = clock
  }

  /** Keeps a grant for a VM. Returns the grantee. Fails with grant-invalid, grant-expired, grant-revoked (an older serial), limit-exceeded. */
  put(vm: VmRecord, textual: string): string {
    const grant = openGrant(decode(textual), decodeBase64url(vm.owner))
    const grantee = encodeBase64url(grant.grantee)
    if (grant.vm !== vm.id) throw new MortarError('grant-invalid', 'it is for another VM')
    if (grantee === vm.owner) throw new MortarError('grant-invalid', 'it is for the owner, who needs none')
    checkGrantTime(grant, this.#clock.now())
    this.#store.removeExpired(vm.id, this.#seconds())
    const known = this.#store.get(vm.id, grantee)
    if (known && known.serial >= grant.serial) throw new MortarError('grant-revoked', `serial ${grant.serial}`)
    if (!known && this.#store.ofVm(vm.id).length >= LIMITS.grantItems) {
      throw new MortarError('limit-exceeded', `${LIMITS.grantItems} grants`)
    }
    this.#store.save(recordOf(grant, grantee, textual))
    return grantee
  }

  /** Forgets a grant; false when there is none. */
  remove(vmId: string, grantee: string): boolean {
    return this.#store.remove(vmId, grantee)
  }

  /** What a grant that has not expired lets the user do at the VM; undefined without one. */
  permissionsOf(user: string, vmId: string): readonly Permission[] | undefined {
    return this.of(user, vmId)?.permissions
  }

  /** The user's grant for the VM, unless it has expired. */
  of(user: string, vmId: string): GrantRecord | undefined {
    const grant = this.#store.get(vmId, user)
    return grant && this.#holds(grant) ? grant : undefined
  }

  /** Ids of the VMs at which the user holds a grant. */
  vmsOf(user: string): string[] {
    return this.#store.ofGrantee(user).flatMap(grant => (this.#holds(grant) ? [grant.vm] : []))
  }

  /** The signed grants of a VM, or the user's own only. */
  signedOf(vmId: string, only?: string): string[] {
    const all = this.#store.ofVm(vmId).filter(grant => this.#holds(grant))
    return all.flatMap(({ grantee, signed }) => (only === undefined || only === grantee ? [signed] : []))
  }

  #holds(grant: GrantRecord): boolean {
    return grant.expires > this.#seconds()
  }

  #seconds(): number {
    return Math.floor(this.#clock.now() / 1000)
  }
}

function recordOf({ vm, serial, expires, permissions, drives }: Grant, grantee: string, signed: string): GrantRecord {
  return { vm, grantee, serial, expires, permissions, drives, signed }
}

function decode(textual: string): Uint8Array {
  try {
    return decodeBase64url(textual)
  } catch (cause) {
    throw new MortarError('grant-invalid', 'not base64url', { cause })
  }
}
