/**
 * Memory and cores that are promised: every VM that runs may use all that it was given, and the host keeps some for itself.
 * Cores are shared, since programs rarely use all of them at once; a VM has at most as many as the host.
 */
import { availableParallelism, totalmem } from 'node:os'
import { MortarError } from '../../protocol/core/errors.ts'

/** What the host has. */
export interface HostFacts {
  readonly memoryMiB: number
  readonly cores: number
}

export const hostFacts = (): HostFacts => ({
  memoryMiB: Math.floor(totalmem() / 2 ** 20),
  cores: availableParallelism(),
})

/** MiB that no VM gets: the broker, libvirt, the system */
const HOST_MIB = 512
/** MiB that QEMU takes beside the memory of its VM */
const QEMU_MIB = 64
/** virtual CPUs of all VMs for each core of the host */
const VCPUS_PER_CORE = 16

interface Size {
  readonly memoryMiB: number
  readonly vcpus: number
}

/** Fails with host-full, and the numbers, unless the host has room for one more VM of this size. `running`: VMs that may run. */
export function requireHostRoom(host: HostFacts, running: readonly Size[], wanted: Size): void {
  const refuse = (detail: string) => {
    throw new MortarError('host-full', detail)
  }
  const leftMiB = running.reduce((left, vm) => left - vm.memoryMiB - QEMU_MIB, host.memoryMiB - HOST_MIB - QEMU_MIB)
  if (wanted.memoryMiB > leftMiB) {
    refuse(`${wanted.memoryMiB} MiB of memory asked for, ${Math.max(0, leftMiB)} MiB left of ${host.memoryMiB} MiB`)
  }
  if (wanted.vcpus > host.cores) refuse(`${wanted.vcpus} CPUs asked for, the host has ${host.cores}`)
  const left = running.reduce((sum, vm) => sum - vm.vcpus, host.cores * VCPUS_PER_CORE)
  if (wanted.vcpus > left) {
    refuse(`${wanted.vcpus} CPUs asked for, ${Math.max(0, left)} left of ${host.cores * VCPUS_PER_CORE} virtual ones`)
  }
}
