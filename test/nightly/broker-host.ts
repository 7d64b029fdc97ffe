/** A real broker over the hypervisor in memory, as a process that may be killed and started again: its VMs run on meanwhile. */
import { type Address, readConfig } from '../../broker/config.ts'
import { wallClock } from '../../broker/process/wall-clock.ts'
import { startBroker } from '../../broker/serve.ts'
import { type FakeDomain, FakeHypervisor } from '../support/fake-hypervisor.ts'
import { LoopbackNetwork } from '../support/loopback-network.ts'

/** Takes agents at the port of before, where those that run dial. */
class SamePort extends LoopbackNetwork {
  readonly #port: number

  constructor(port: number) {
    super()
    this.#port = port
  }

  override start(listen: (address: Address) => Promise<Address>): Promise<void> {
    return super.start(({ host }) => listen({ host, port: this.#port }))
  }
}

async function main(): Promise<void> {
  const [configPath, agentPort, ...vmIds] = process.argv.slice(2)
  const driver = new FakeHypervisor()
  for (const vmId of vmIds) {
    const definition = { vmId } as FakeDomain['definition']
    driver.domains.set(vmId, { definition, state: 'running', drives: new Map() })
  }
  const write = (event: string, fields: object = {}) => console.error(JSON.stringify({ event, ...fields }))
  const log = { info() {}, warn: write, error: write }
  const network = new SamePort(Number(agentPort))
  const broker = await startBroker({ config: readConfig(configPath), driver, network, clock: wallClock, log })
  // whoever started it is gone
  process.stdin.on('end', () => process.exit()).resume()
  console.log(JSON.stringify({ listening: broker.origin }))
}

void main()
