/** What this device remembers of VMs: the launch and the serial of the newest certificate, so that no broker goes back behind it. SPEC §2.4 */
import type { Vm } from '../../protocol/control/api.ts'
import { object, uint, uuid, z } from '../../protocol/core/schema.ts'

export interface KnownVm {
  readonly launch: string
  /** of the newest certificate that this device made or saw */
  readonly serial: number
}

/**
 * What a VM is remembered as by a user (Ed25519 key, base64url): another's by its owner too. Whose it is only the broker says, and one that makes
 * up an owner must not spoil what is known of the true one's.
 */
export const knownAs = ({ id, owner }: Pick<Vm, 'id' | 'owner'>, user: string): string =>
  owner === user ? id : `${id} ${owner}`

const nameSchema = z.string().refine(name => {
  const [id, owner = '', ...more] = name.split(' ')
  return uuid.safeParse(id).success && /^[A-Za-z0-9_-]{0,43}$/.test(owner) && more.length === 0
})
export const allKnownVms = z.record(nameSchema, object({ launch: uuid, serial: uint() }))

export interface KnownVms {
  /** `vm`: as knownAs() says. null for a VM that this device does not know */
  read(vm: string): Promise<KnownVm | null>
  write(vm: string, known: KnownVm): Promise<void>
}

export type AllKnownVms = Readonly<Record<string, KnownVm>>

/** VMs of which the oldest known are forgotten first */
export const MOST_KNOWN_VMS = 1_000

/** With one VM more, the newest last, or the very same when nothing is new. */
export function withKnownVm(all: AllKnownVms, vm: string, known: KnownVm): AllKnownVms {
  const before = Object.hasOwn(all, vm) ? all[vm] : undefined
  if (before?.launch === known.launch && before.serial >= known.serial) return all
  const { [vm]: _, ...others } = all
  return Object.fromEntries([...Object.entries(others), [vm, known] as const].slice(-MOST_KNOWN_VMS))
}

/** For as long as the program runs. */
export function knownVmsInMemory(): KnownVms {
  let all: AllKnownVms = {}
  return {
    read: async vm => (Object.hasOwn(all, vm) ? (all[vm] ?? null) : null),
    async write(vm, known) {
      all = withKnownVm(all, vm, known)
    },
  }
}
