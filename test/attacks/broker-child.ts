/** A broker as a process of its own, over the hypervisor in memory: what `BrokerApart` starts. */
import type { Config } from '../../broker/config.ts'
import { startBroker } from '../../broker/serve.ts'
import { wallClock } from '../../broker/wall-clock.ts'
import { FakeHypervisor } from '../support/fake-hypervisor.ts'

process.once('message', async (config: Config) => {
  const log = { info: () => undefined, warn: () => undefined, error: () => undefined }
  const { origin, ssh, id } = await startBroker({ config, driver: new FakeHypervisor(), clock: wallClock, log })
  process.send?.({ origin, ssh, id })
})
// the parent went away
process.once('disconnect', () => process.exit(0))
