/** Chooses the network of a broker by its configuration. */
import type { Config } from '../config.ts'
import type { HypervisorDriver } from '../hypervisor/driver.ts'
import type { Log } from '../process/log.ts'
import type { GuestNetwork } from './guest-network.ts'
import { IsolatedNetwork } from './isolated-network.ts'
import { planNetwork } from './plan.ts'
import { UserNetwork } from './user-network.ts'

export interface NetworkParts {
  readonly config: Config
  readonly driver: HypervisorDriver
  readonly log: Log
  /** the broker's Ed25519 key */
  readonly brokerId: Uint8Array
}

export function createNetwork({ config, driver, log, brokerId }: NetworkParts): GuestNetwork {
  const plan = planNetwork(brokerId, config.subnet)
  const parts = { plan, driver, log, agentListen: config.agentListen }
  return config.network === 'user' ? new UserNetwork(parts) : new IsolatedNetwork(parts)
}
