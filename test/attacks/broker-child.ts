/** A broker as a process of its own, over the hypervisor in memory: what `BrokerApart` starts. */
import type { Config } from '../../broker/config.ts'
import { wallClock } from '../../broker/process/wall-clock.ts'
import { startBroker } from '../../broker/serve.ts'
import { FakeHypervisor } from '../support/fake-hypervisor.ts'
import { LoopbackNetwork } from '../support/loopback-network.ts'

process.once('message', async (config: Config) => {
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined }
  const parts = { config, driver: new FakeHypervisor(), clock: wallClock, log, network: new LoopbackNetwork() }
  const { origin, agents, ssh, id } = await startBroker(parts)
  process.send?.({ origin, agents, ssh, id })
})
// the parent went away
process.once('disconnect', () => process.exit(0))
