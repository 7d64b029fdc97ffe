/** What this device remembers of VMs: the launch and the serial of the newest certificate, so that no broker goes back behind it. SPEC §2.4 */

export interface KnownVm {
  readonly launch: string
  /** of the newest certificate that this device made or saw */
  readonly serial: number
}

export interface KnownVms {
  /** null for a VM that this device does not know */
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
