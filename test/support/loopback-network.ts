/** A network for brokers over the hypervisor in memory: agents are taken on the loopback, and the host is left as it is. */
import type { Address } from '../../broker/config.ts'
import type { GuestNetwork } from '../../broker/network/guest-network.ts'
import { freeSlot, planNetwork } from '../../broker/network/plan.ts'
import type { MortarError } from '../../protocol/core/errors.ts'

export class LoopbackNetwork implements GuestNetwork {
  readonly #plan = planNetwork(new Uint8Array(32))
  origin = ''
  /** what is wrong with it */
  fault: MortarError | undefined
  /** whether VMs were left when it was closed */
  left: boolean | undefined
  /** slots by address, for tests in which an address tells the VM */
  readonly slots = new Map<string, number>()

  async start(listen: (address: Address) => Promise<Address>): Promise<void> {
    const { host, port } = await listen({ host: '127.0.0.1', port: 0 })
    this.origin = `http://${host}:${port}`
  }

  async requireUp(): Promise<void> {
    if (this.fault) throw this.fault
  }

  freeSlot(taken: ReadonlyMap<number, string>): number {
    return freeSlot(this.#plan, taken)
  }

  async placeOf(slot: number) {
    return { network: { kind: 'user', uid: slot, gid: 0 } as const, guestAddress: `192.0.2.${slot}/24` }
  }

  slotOf(address: string): number | undefined {
    return this.slots.get(address)
  }

  async close(isUsed: boolean): Promise<void> {
    this.left = isUsed
  }
}
