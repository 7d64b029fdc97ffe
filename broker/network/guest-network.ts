/** The network that a broker's VMs are on: what it gives each VM and the agent listener, and how it is brought up and taken down. */
import type { Address } from '../config.ts'
import type { VmNetwork } from '../hypervisor/driver.ts'

export interface GuestNetwork {
  /** Brings it up, with `listen` for where agents are taken. Fails with network-unusable, and with what `listen` fails with. */
  start(listen: (address: Address) => Promise<Address>): Promise<void>
  /** Makes sure that it holds a VM in, before one starts. Fails with network-unusable or libvirt-down. */
  requireUp(): Promise<void>
  /** The lowest slot that no VM has. Fails with limit-exceeded. */
  freeSlot(taken: ReadonlyMap<number, string>): number
  /** What the VM of a slot is plugged into, and how it is to set its address: ADDRESS/BITS. Fails with network-unusable. */
  placeOf(slot: number): Promise<{ readonly network: VmNetwork; readonly guestAddress: string }>
  /** The slot that dials from this address; undefined where the address does not tell. */
  slotOf(address: string): number | undefined
  /** http://host:port as VMs see the agent listener */
  readonly origin: string
  /** Stops watching; takes the network down when no VM is left on it. */
  close(isUsed: boolean): Promise<void>
}
