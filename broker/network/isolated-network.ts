/**
 * The isolated network: a bridge of the broker's own that leads nowhere. A VM reaches the agent listener at the bridge's
 * address and nothing else: libvirt isolates and filters its port, and the host's packet filter drops all else.
 */
import { MortarError } from '../../protocol/core/errors.ts'
import type { Address } from '../config.ts'
import type { HypervisorDriver } from '../hypervisor/driver.ts'
import type { Log } from '../process/log.ts'
import { bindingWarning } from './binding.ts'
import { faultOfBridge, makeBridge, removeBridge } from './bridge.ts'
import type { GuestNetwork } from './guest-network.ts'
import { isolatedRules, PacketFilter } from './packet-filter.ts'
import { AGENT_PORT, freeSlot, type NetworkPlan, placeOf, slotOf } from './plan.ts'
import { watchNetwork } from './watch.ts'

export interface IsolatedParts {
  readonly plan: NetworkPlan
  readonly driver: HypervisorDriver
  readonly log: Log
  /** where agents are taken instead of the bridge's address, to which something else then listens */
  readonly agentListen: Address | undefined
}

export class IsolatedNetwork implements GuestNetwork {
  readonly #parts: IsolatedParts
  readonly #filter: PacketFilter
  #stopWatching: () => Promise<void> = () => Promise.resolve()

  constructor(parts: IsolatedParts) {
    this.#parts = parts
    this.#filter = new PacketFilter(parts.plan.name)
  }

  get origin(): string {
    return `http://${this.#parts.plan.address}:${AGENT_PORT}`
  }

  async start(listen: (address: Address) => Promise<Address>): Promise<void> {
    const { plan, driver, log, agentListen } = this.#parts
    // the filter knows the bridge by its name, so it stands before there is a bridge
    await this.#filter.set(isolatedRules(plan))
    await makeBridge(plan)
    // where libvirt is away, it is asked again before each start of a VM
    await driver.ensureNetwork(this.#definition).catch(unlessDown)
    this.#stopWatching = watchNetwork(log, () => this.#mend())
    const message = bindingWarning({ network: 'isolated', agentListen }, plan.address)
    if (message) log.warn('network.unbound', { message })
    await listen(agentListen ?? { host: plan.address, port: AGENT_PORT })
  }

  async requireUp(): Promise<void> {
    await this.#mend()
    await this.#parts.driver.ensureNetwork(this.#definition)
  }

  freeSlot(taken: ReadonlyMap<number, string>): number {
    return freeSlot(this.#parts.plan, taken)
  }

  async placeOf(slot: number) {
    const { plan } = this.#parts
    const { address, macAddress } = placeOf(plan, slot)
    const network = { kind: 'isolated', network: plan.name, address, macAddress } as const
    return { network, guestAddress: `${address}/${plan.subnet.bits}` }
  }

  slotOf(address: string): number | undefined {
    return slotOf(this.#parts.plan, address)
  }

  async close(isUsed: boolean): Promise<void> {
    const { plan, driver } = this.#parts
    await this.#stopWatching()
    if (isUsed) return
    await driver.removeNetwork(plan.name).catch(unlessDown)
    await removeBridge(plan.name)
    // last, so that nothing was ever there without it
    await this.#filter.remove()
  }

  get #definition() {
    const { name, address, macAddress } = this.#parts.plan
    return { name, address, macAddress, agentPort: AGENT_PORT }
  }

  /** Returns what it mended. A port that is not isolated is nobody's but the operator's to mend: it fails with network-unusable. */
  async #mend(): Promise<string | undefined> {
    const { plan } = this.#parts
    let mended: string | undefined
    if (!(await this.#filter.stands())) {
      await this.#filter.mend()
      mended = 'its packet filter was changed'
    }
    const fault = faultOfBridge(plan)
    if (fault === undefined) return mended
    await makeBridge(plan)
    const left = faultOfBridge(plan)
    if (left !== undefined) throw new MortarError('network-unusable', left)
    return fault
  }
}

function unlessDown(cause: unknown): void {
  if (!(cause instanceof MortarError && cause.code === 'libvirt-down')) throw cause
}
