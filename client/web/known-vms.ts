/** What this browser remembers of VMs, for this page: the newest certificate of each, and nothing secret. */
import { MortarError } from '../../protocol/core/errors.ts'
import { type AllKnownVms, allKnownVms, type KnownVms, withKnownVm } from '../vms/known-vms.ts'

const KEY = 'mortar known VMs v1'

/** Fails with certificate-invalid when the entry is damaged: unknown must not look like new. */
function readKnown(): AllKnownVms {
  const stored = localStorage.getItem(KEY)
  if (stored === null) return {}
  try {
    return allKnownVms.parse(JSON.parse(stored))
  } catch (cause) {
    throw new MortarError('certificate-invalid', 'the list of known VMs in this browser is damaged', { cause })
  }
}

export const storedVms: KnownVms = {
  async read(vm) {
    const known = readKnown()
    return Object.hasOwn(known, vm) ? (known[vm] ?? null) : null
  },
  async write(vm, known) {
    localStorage.setItem(KEY, JSON.stringify(withKnownVm(readKnown(), vm, known)))
  },
}
