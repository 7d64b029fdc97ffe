/** A broker, an agent and clients as processes of their own, which are what they are in use, but for the hypervisor beneath. */
import { spawnSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Identity } from '../../client/identity/identity.ts'
import { NODE_OPTIONS } from '../../images/node-options.ts'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { encodeBase64url, encodeHex } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { builderSeed, Rig } from '../broker/rig.ts'
import { endRunners } from '../support/runners.ts'
import type { Report } from './kill-report.ts'
import { makeBundles, Victim } from './victim.ts'

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as { port: number }
  await new Promise(resolve => server.close(resolve))
  return port
}

/** The agent's keys last as long as a boot, and this machine does not boot for us: they are forgotten before and after. */
function forgetBootKeys(): void {
  const found = spawnSync('keyctl', ['search', '@u', 'user', 'mortar-agent:boot'], { encoding: 'utf8' })
  if (found.error) throw new Error('keyctl is not there: install the package keyutils')
  if (found.status === 0) spawnSync('keyctl', ['unlink', found.stdout.trim(), '@u'])
}

/** Ids of the processes with all these arguments. */
export function processesWith(...wanted: readonly string[]): number[] {
  const isWanted = (pid: string) => {
    try {
      const args = readFileSync(`/proc/${pid}/cmdline`, 'utf8').split('\0')
      return wanted.every(argument => args.includes(argument))
    } catch {
      return false
    }
  }
  return readdirSync('/proc')
    .filter(name => /^\d+$/.test(name) && isWanted(name))
    .map(Number)
}

/** as the built program runs */
const BROKER_FLAGS = [...NODE_OPTIONS['mortar-broker'], '--no-warnings']
/** not bundled, since it starts runners from where its sources are */
const AGENT = new URL('../../agent/main.ts', import.meta.url).pathname

/** Process ids of the runners that an agent without systemd has noted there and that are alive. */
function runnersIn(folder: string): number[] {
  if (!existsSync(folder)) return []
  return readdirSync(folder)
    .filter(name => name.endsWith('.pid'))
    .map(name => Number(readFileSync(join(folder, name), 'utf8')))
    .filter(pid => existsSync(`/proc/${pid}`))
}

export interface Client {
  readonly victim: Victim
  report: (report: Report) => void
}

export interface KillingPlace {
  readonly broker: Victim
  readonly agent: Victim
  readonly clients: readonly Client[]
  /** whether the agent that runs has come to the broker: it then knows what runs */
  agentIsBack(): boolean
  /** http://host:port of the broker */
  readonly url: string
  /** where the broker takes agents */
  readonly agentPort: number
  readonly owner: Identity
  readonly vm: string
  startClient(client: Client): void
  /** process ids of the runners that hold programs beside the agent; none where the agent holds them itself */
  runners(): number[]
  remove(): Promise<void>
}

/** Launches a VM, whose guest is the agent process; the first of at least one client makes first contact. */
export async function makePlace(clientCount: number): Promise<KillingPlace> {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-kills-'))
  // what runs as other users has its sockets in it
  chmodSync(folder, 0o711)
  const [port, agentPort] = [await freePort(), await freePort()]
  const dataDir = join(folder, 'data')
  const rig = await Rig.start({ dataDir, listen: { host: '127.0.0.1', port } })
  const { owner } = rig.people
  const [vm, launch] = [randomUUID() as string, randomUUID() as string]
  // as the client library makes it
  const secret = owner.launchSecret(vm, launch)
  const signed = rig.sign({ vm, launch, commitment: launchCommitment(suite, secret) })
  const { status, json } = await rig.post({ ...signed, secret }, 'killed')
  if (status !== 200) throw new Error(JSON.stringify(json))
  const ownerSeed = owner.withSeed(encodeHex)
  await rig.stopBroker()
  rmSync(rig.folder, { recursive: true, force: true })

  const bundles = await makeBundles(folder)
  const config = join(folder, 'broker.toml')
  writeFileSync(
    config,
    `data_dir = "${dataDir}"\nlisten = "127.0.0.1:${port}"\nssh_listen = ""\nusers = ["${owner.text}"]
builders = ["${encodeBase64url(signingPublicKey(builderSeed))}"]\n`,
  )
  for (const name of ['credentials', 'state', 'runtime']) mkdirSync(join(folder, name), { mode: 0o700 })
  mkdirSync(join(folder, 'homes'))
  const credential = (name: string, bytes: Uint8Array | string) =>
    writeFileSync(join(folder, 'credentials', name), bytes)
  credential('mortar.ticket', signed.signed)
  credential('mortar.secret', secret)
  credential('mortar.broker', JSON.stringify({ url: `ws://127.0.0.1:${agentPort}/v1/agent?vm=${vm}` }))
  const agentConfig = join(folder, 'agent.toml')
  writeFileSync(agentConfig, `homes = "${join(folder, 'homes')}"\nfeatures = ${JSON.stringify(PERMISSIONS)}\n`)

  const url = `http://127.0.0.1:${port}`
  const logOf = (name: string) => join(folder, `${name}.log`)
  const broker = new Victim([...BROKER_FLAGS, bundles.broker, config, `${agentPort}`, vm], logOf('broker'))
  const agent = new Victim([AGENT, 'serve', '--config', agentConfig], logOf('agent'), {
    CREDENTIALS_DIRECTORY: join(folder, 'credentials'),
    STATE_DIRECTORY: join(folder, 'state'),
    RUNTIME_DIRECTORY: join(folder, 'runtime'),
  })
  let enrolled = 0
  agent.onLine = line => {
    if (line.includes('"event":"enrolled"')) enrolled = agent.pid
  }
  const clients = Array.from({ length: clientCount }, (_, i): Client => {
    const args = [bundles.client, url, ownerSeed, vm]
    return { victim: new Victim(args, logOf(`client-${i}`)), report() {} }
  })
  const runners = () => runnersIn(join(folder, 'runtime', 'runners'))
  const startClient = (client: Client) => {
    client.victim.onLine = line => client.report(JSON.parse(line))
    client.victim.start()
  }
  forgetBootKeys()
  await broker.ready()
  agent.start()
  // who makes first contact certifies the agent; the others find it certified
  const [first, ...others] = clients as [Client, ...Client[]]
  startClient(first)
  await new Promise<void>((resolve, reject) => {
    first.report = report => {
      if (report.kind === 'whole') resolve()
      else if (report.kind !== 'began') reject(new Error(`first contact: ${JSON.stringify(report)}`))
    }
    first.victim.say({ lines: 2, everyMs: 1, code: 0, tag: randomUUID() })
  })
  for (const client of others) startClient(client)
  return {
    broker,
    agent,
    clients,
    agentIsBack: () => enrolled === agent.pid,
    url,
    agentPort,
    owner,
    vm,
    startClient,
    runners,
    async remove() {
      for (const victim of [...clients.map(client => client.victim), agent, broker]) await victim.kill()
      // they outlive their agent
      await endRunners(join(folder, 'runtime'))
      forgetBootKeys()
      rmSync(folder, { recursive: true, force: true })
    },
  }
}
