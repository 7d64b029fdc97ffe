/** The program mortar-broker: serve, config check, doctor. */
import { randomBytes } from 'node:crypto'
import { parseArgs } from 'node:util'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { type Config, readConfig } from './config.ts'
import { hostAcceleration } from './hypervisor/acceleration.ts'
import { describeHostMemory, hostMemory } from './hypervisor/host-memory.ts'
import { LibvirtDriver } from './hypervisor/libvirt/driver.ts'
import { requireEntry } from './hypervisor/storage-access.ts'
import { requireQemuImg } from './images/overlay.ts'
import { bindingWarning } from './network/binding.ts'
import { createNetwork } from './network/network.ts'
import { planNetwork } from './network/plan.ts'
import { createLog } from './process/log.ts'
import { wallClock } from './process/wall-clock.ts'
import { startBroker, VERSION } from './serve.ts'

const HELP = `Usage: mortar-broker COMMAND [--config FILE]

Launches VMs on this hypervisor and joins their owners with the agents inside. Reads nothing of what they say.

  serve           run; one line of JSON on stdout when ready, the log on stderr
  config check    say whether the configuration file is valid, and its data_dir open to QEMU
  doctor          say whether this host can run VMs, and how fast

  --config FILE   TOML file (default: none, everything at its default)
  --version       print the version

Examples:
  mortar-broker doctor
  mortar-broker config check --config /etc/mortar/broker.toml
  mortar-broker serve --config /etc/mortar/broker.toml`

const COMMANDS: Readonly<Record<string, (configPath: string | undefined) => Promise<void>>> = {
  serve,
  'config check': async path => {
    requireEntryOf(readConfig(path))
    console.log(`${path ?? 'the default configuration'} is valid`)
  },
  doctor: async path => {
    const config = readConfig(path)
    const driver = new LibvirtDriver(config.libvirtSocket, hostAcceleration(), config.locksMemory)
    try {
      requireEntryOf(config)
      const { hypervisor, acceleration, reason, locksMemory } = await driver.describe()
      await requireQemuImg()
      console.log(`hypervisor    ${hypervisor}\nacceleration  ${acceleration}: ${reason}`)
      console.log(describeHostMemory(hostMemory(), locksMemory).join('\n'))
      await tryNetwork({ ...config, agentListen: undefined }, driver)
      console.log(`network       ${config.network}: one could be made, filtered and removed again`)
      const bridge = config.subnet && planNetwork(randomBytes(32), config.subnet).address
      const warning = bindingWarning(config, bridge)
      if (warning) console.log(`agent_listen  ${warning}`)
    } finally {
      driver.close()
    }
  },
}

/** Under user networking each QEMU has a user of its own, who is in no group that could let it in. */
function requireEntryOf({ dataDir, network }: Config): void {
  if (network === 'user') requireEntry(dataDir, `+${planNetwork(randomBytes(32)).firstUid}`)
  else requireEntry(dataDir)
}

/** Makes a network like the broker's, of another name and another address, and removes it. Fails with network-unusable. */
async function tryNetwork(config: Config, driver: LibvirtDriver): Promise<void> {
  const parts = { config: { ...config, subnet: undefined }, driver, log: createLog(), brokerId: randomBytes(32) }
  const network = createNetwork(parts)
  try {
    await network.start(async address => address)
    await network.requireUp()
  } finally {
    await network.close(false)
  }
}

async function serve(configPath: string | undefined): Promise<void> {
  const config = readConfig(configPath)
  requireEntryOf(config)
  const log = createLog()
  const driver = new LibvirtDriver(config.libvirtSocket, hostAcceleration(), config.locksMemory)
  const broker = await startBroker({ config, driver, clock: wallClock, log })
  const stop = (signal: string) => {
    log.info('broker.stopping', { signal })
    broker.close().then(
      () => process.exit(0),
      () => process.exit(1),
    )
  }
  process.once('SIGTERM', stop)
  process.once('SIGINT', stop)
  console.log(JSON.stringify({ listening: broker.origin, agents: broker.agents, ssh: broker.ssh, id: broker.id }))
}

async function main(): Promise<void> {
  const { values, positionals } = parseArgs({
    allowPositionals: true,
    options: {
      config: { type: 'string' },
      help: { type: 'boolean', short: 'h' },
      version: { type: 'boolean' },
    },
  })
  if (values.version) return console.log(VERSION)
  if (values.help || positionals.length === 0) return console.log(HELP)
  const command = COMMANDS[positionals.join(' ')]
  if (!command) throw new MortarError('usage', `there is no command "${positionals.join(' ')}"`)
  await command(values.config)
}

if (import.meta.main) {
  main().catch(thrown => {
    const unknownOption = (thrown as NodeJS.ErrnoException).code?.startsWith('ERR_PARSE_ARGS') === true
    const error = asMortarError(thrown, unknownOption ? 'usage' : 'internal')
    console.error(`mortar-broker: ${error.message}\n  → ${error.todo}`)
    process.exitCode = error.code === 'usage' ? 2 : 1
  })
}
