/**
 * QEMU's user networking, for hosts where no bridge can be made. QEMU itself connects there, in the VM's name: it runs as a
 * user of its own for each VM, and the host's packet filter lets these users reach the agent listener on the loopback, nothing else.
 */
import { statSync } from 'node:fs'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Address } from '../config.ts'
import type { HypervisorDriver } from '../hypervisor/driver.ts'
import type { Log } from '../process/log.ts'
import type { GuestNetwork } from './guest-network.ts'
import { PacketFilter, userRules } from './packet-filter.ts'
import { AGENT_PORT, freeSlot, type NetworkPlan, placeOf, USER_NETWORK } from './plan.ts'
import { watchNetwork } from './watch.ts'

export interface UserParts {
  readonly plan: NetworkPlan
  readonly driver: HypervisorDriver
  readonly log: Log
  readonly agentListen: Address | undefined
}

export class UserNetwork implements GuestNetwork {
  readonly #parts: UserParts
  readonly #filter: PacketFilter
  #agentPort = 0
  #stopWatching: () => Promise<void> = () => Promise.resolve()

  constructor(parts: UserParts) {
    this.#parts = parts
    this.#filter = new PacketFilter(parts.plan.name)
  }

  get origin(): string {
    return `http://${USER_NETWORK.host}:${this.#agentPort}`
  }

  async start(listen: (address: Address) => Promise<Address>): Promise<void> {
    const { plan, log, agentListen } = this.#parts
    const { host, port } = await listen(agentListen ?? { host: '127.0.0.1', port: AGENT_PORT })
    if (host !== '127.0.0.1') {
      throw new MortarError('bad-config', `agent_listen: with network = "user" VMs reach 127.0.0.1 only, not ${host}`)
    }
    this.#agentPort = port
    await this.#filter.set(userRules(plan, port))
    this.#stopWatching = watchNetwork(log, () => this.#mend())
  }

  async requireUp(): Promise<void> {
    await this.#mend()
    requireKvm(await this.#parts.driver.describe(), await this.#parts.driver.qemuGroup())
  }

  freeSlot(taken: ReadonlyMap<number, string>): number {
    return freeSlot(this.#parts.plan, taken)
  }

  async placeOf(slot: number) {
    const { uid } = placeOf(this.#parts.plan, slot)
    const gid = await this.#parts.driver.qemuGroup()
    return { network: { kind: 'user', uid, gid } as const, guestAddress: USER_NETWORK.guest }
  }

  /** All VMs dial from the loopback. */
  slotOf(): undefined {
    return undefined
  }

  async close(isUsed: boolean): Promise<void> {
    await this.#stopWatching()
    if (!isUsed) await this.#filter.remove()
  }

  async #mend(): Promise<string | undefined> {
    if (await this.#filter.stands()) return undefined
    await this.#filter.mend()
    return 'its packet filter was changed'
  }
}

/** Fails when VMs would run by KVM, and a user who is in QEMU's group alone may not open it. */
function requireKvm({ acceleration }: { acceleration: string }, gid: number): void {
  if (acceleration !== 'kvm') return
  const device = statSync('/dev/kvm')
  const shift = device.gid === gid ? 3 : 0
  if (((device.mode >> shift) & 6) === 6) return
  throw new MortarError(
    'network-unusable',
    'with network = "user" each QEMU runs as a user of its own, which may not open /dev/kvm: run chmod 666 /dev/kvm, and keep it so by a rule of udev',
  )
}
