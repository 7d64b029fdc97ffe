/**
 * A whole Mortar on this machine, as people have it: the built programs, a broker over the real libvirt, a brick, and
 * three people with identities. Tests and the demo drive it by the command `mortar`, or by the client library.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { chmod, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { AGENT_PORT, type NetworkPlan, planNetwork } from '../../broker/network/plan.ts'
import { type Binaries, buildBinaries } from '../../images/build-binaries.ts'
import { buildBrick } from '../../images/build-brick.ts'
import type { Brick } from '../../images/sign-brick.ts'
import type { Progress } from '../../images/steps.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { decodeBase64url } from '../../protocol/core/bytes.ts'
import { removeDomainsOf } from './domains.ts'
import { ensureLibvirt } from './libvirt-daemons.ts'
import { removeNetworkOf } from './networks.ts'
import { newPeople, type People, type Person } from './people.ts'
import { type Outcome, type ProgramOptions, runProgram } from './program.ts'

const CACHE = '/var/cache/mortar'
/** of the broker's log, shown when a command fails */
const LOG_LINES = 8

export type { Person }

export type Stage = <T>(name: string, run: (say: Progress) => Promise<T>) => Promise<T>

export interface MachineOptions {
  /** parent of the machine's folder; QEMU's user must be able to enter it */
  readonly parent?: string
  /** the broker takes agents on the host's loopback, and a test listens where VMs dial: at `machine.front` */
  readonly fronted?: boolean
  /** by default the isolated network, and user networking for a machine that is bare */
  readonly network?: 'isolated' | 'user'
  readonly enrolWithinSeconds?: number
  /** lines added to the broker's configuration */
  readonly config?: string
  /** web origins that may call the API */
  readonly origins?: readonly string[]
  /** the brick for tests: no CPU mitigations, since TCG has nothing to mitigate (default true) */
  readonly testBrick?: boolean
  /** told of every stage of the set-up, with a way to report progress */
  readonly stage?: Stage
  /** no brick and no libvirt: for tests that launch nothing */
  readonly bare?: boolean
}

export class Machine {
  readonly folder: string
  readonly binaries: Binaries
  readonly brick: Brick | undefined
  readonly people: People
  readonly #options: MachineOptions
  readonly #kept: ChildProcess[] = []
  #broker: ChildProcess | undefined
  /** true once it was left running: dispose() is then somebody else's */
  left = false
  #listening = ''
  #agents = ''
  #ssh = ''
  /** the broker's key */
  #id = ''

  private constructor(
    folder: string,
    binaries: Binaries,
    brick: Brick | undefined,
    people: People,
    options: MachineOptions,
  ) {
    this.folder = folder
    this.binaries = binaries
    this.brick = brick
    this.people = people
    this.#options = options
  }

  /** Builds what is missing, makes people, starts the broker, imports the brick. The caller calls dispose(). */
  static async start(options: MachineOptions = {}): Promise<Machine> {
    const stage: Stage = options.stage ?? ((_name, run) => run(() => undefined))
    const binaries = await stage('programs built', say => buildBinaries(say))
    let brick: Brick | undefined
    if (!options.bare) {
      await ensureLibvirt()
      brick = await stage('brick built', say => brickOf(binaries, options, say))
    }
    const folder = await mkdtemp(join(options.parent ?? '/var/tmp', 'mortar-'))
    await chmod(folder, 0o711)
    const people = await stage('identities created', () => newPeople(folder, binaries.client)).catch(async cause => {
      await rm(folder, { recursive: true, force: true })
      throw cause
    })
    const machine = new Machine(folder, binaries, brick, people, options)
    try {
      await stage('broker started', async say => {
        await machine.startBroker()
        say(machine.url)
      })
      if (brick) {
        const { imagePath } = brick
        await stage('brick imported', () => machine.must(people.administrator, ['brick', 'import', imagePath]))
      }
    } catch (cause) {
      await machine.dispose()
      throw cause
    }
    return machine
  }

  /** http://host:port of the broker */
  get url(): string {
    return this.#listening
  }

  /** http://host:port where the broker takes agents */
  get agents(): string {
    return this.#agents
  }

  /** what the broker's network is made of */
  get plan(): NetworkPlan {
    return planNetwork(decodeBase64url(this.#id))
  }

  /** where VMs dial, and a test listens for a machine that is fronted */
  get front(): { host: string; port: number } {
    return { host: this.plan.address, port: AGENT_PORT }
  }

  /** host:port of the jump host */
  get ssh(): string {
    return this.#ssh
  }

  get brokerPid(): number {
    return this.#broker?.pid ?? 0
  }

  get dataDir(): string {
    return join(this.folder, 'broker')
  }

  get logPath(): string {
    return join(this.folder, 'broker.log')
  }

  get brickName(): string {
    return this.#options.testBrick === false ? 'debian-12' : 'debian-12-test'
  }

  get configPath(): string {
    return join(this.folder, 'broker.toml')
  }

  /** Starts the broker; again on the same ports after stopBroker(). */
  async startBroker(): Promise<void> {
    await writeFile(this.configPath, await this.#config())
    const log = openSync(this.logPath, 'a')
    const child = spawn(this.binaries.broker, ['serve', '--config', this.configPath], {
      stdio: ['ignore', 'pipe', log],
      detached: true,
    })
    closeSync(log)
    this.#broker = child
    const line = await new Promise<string>((resolve, reject) => {
      child.stdout?.once('data', chunk => resolve(String(chunk)))
      child.once('exit', code => reject(new Error(`the broker ended with ${code}; see ${this.logPath}`)))
    })
    const { listening, agents, ssh, id } = JSON.parse(line) as Record<'listening' | 'agents' | 'ssh' | 'id', string>
    this.#listening = listening
    this.#agents = agents
    this.#ssh = ssh
    this.#id = id
  }

  /** Ends the broker and waits until it is gone. */
  async stopBroker(signal: 'SIGTERM' | 'SIGKILL' = 'SIGTERM'): Promise<void> {
    const child = this.#broker
    if (!child || child.exitCode !== null || child.signalCode !== null) return
    const gone = new Promise(resolve => child.once('exit', resolve))
    child.kill(signal)
    await Promise.race([gone, delay(10_000).then(() => child.kill('SIGKILL'))])
    await gone
  }

  /** Runs `mortar` as a person. */
  mortar(person: Person, args: readonly string[], options: ProgramOptions = {}): Promise<Outcome> {
    return runProgram(this.binaries.client, args, { ...options, env: { ...this.environment(person), ...options.env } })
  }

  environment(person: Person): Record<string, string> {
    return { HOME: person.home, MORTAR_BROKER: this.url, MORTAR_IDENTITY: person.identityPath }
  }

  /** Runs `mortar --json` as a person and reads its answer; fails unless it exits with 0. */
  async must<T = Record<string, unknown>>(
    person: Person,
    args: readonly string[],
    options?: ProgramOptions,
  ): Promise<T> {
    const { code, stdout, stderr } = await this.mortar(person, ['--json', ...args], { timeoutMs: 400_000, ...options })
    if (code !== 0) {
      const log = (await readFile(this.logPath, 'utf8')).trim().split('\n').slice(-LOG_LINES).join('\n')
      throw new Error(
        `mortar ${args.join(' ')} ended with ${code}:\n${stderr}${stdout}\nend of the broker's log:\n${log}`,
      )
    }
    return (stdout.trim() === '' ? {} : JSON.parse(stdout)) as T
  }

  /** Launches a VM and waits until it is ready. */
  async launch(person: Person, name: string, more: readonly string[] = []): Promise<Vm> {
    const args = ['vm', 'create', name, '--brick', this.brickName, '--memory', '768', ...more]
    return (await this.must<{ vm: Vm }>(person, args)).vm
  }

  /** Makes a small drive, attaches it to a VM and unlocks it there. */
  async addDrive(person: Person, vm: string, name: string): Promise<void> {
    await this.must(person, ['drive', 'create', name, '--size', '64M'])
    await this.must(person, ['drive', 'attach', name, vm])
    await this.must(person, ['drive', 'unlock', name, '--format'])
  }

  /** Runs a program in a VM; fails unless it ends with 0. Returns its stdout. */
  async inVm(person: Person, vm: string, argv: readonly string[], options: ProgramOptions & { user?: string } = {}) {
    const { user, ...rest } = options
    const as = user === undefined ? [] : ['--user', user]
    const { code, stdout, stderr } = await this.mortar(person, ['exec', vm, ...as, '--', ...argv], rest)
    if (code !== 0) throw new Error(`${argv.join(' ')} ended with ${code} in ${vm}:\n${stderr}${stdout}`)
    return stdout
  }

  /** Counts a process among those that leave() lets live. */
  keep(child: ChildProcess): void {
    this.#kept.push(child)
  }

  /** Lets broker and kept processes live on without us. */
  leave(): void {
    this.left = true
    for (const child of [this.#broker, ...this.#kept]) {
      child?.stdout?.destroy()
      child?.unref()
    }
  }

  /** Ends VMs, broker and files. Safe to repeat. */
  async dispose(): Promise<void> {
    await this.stopBroker()
    if (!this.#options.bare) await removeDomainsOf(this.folder)
    await removeNetworkOf(this.folder)
    await rm(this.folder, { recursive: true, force: true })
  }

  async #config(): Promise<string> {
    const { people, brick } = this
    const port = this.#listening === '' ? 0 : Number(new URL(this.#listening).port)
    const sshPort = this.#ssh === '' ? 0 : Number(this.#ssh.split(':').at(-1))
    const { fronted, bare, enrolWithinSeconds = 300, config = '', origins = [] } = this.#options
    const { network = bare ? 'user' : 'isolated' } = this.#options
    const agentPort = this.#agents === '' ? 0 : Number(new URL(this.#agents).port)
    const lines = [
      `data_dir = ${JSON.stringify(this.dataDir)}`,
      `listen = "127.0.0.1:${port}"`,
      `ssh_listen = "127.0.0.1:${sshPort}"`,
      `users = ${JSON.stringify([people.owner.identity, people.other.identity])}`,
      `administrators = ${JSON.stringify([people.administrator.identity])}`,
      `origins = ${JSON.stringify(origins)}`,
      `enrol_within_seconds = ${enrolWithinSeconds}`,
    ]
    lines.push(`network = "${network}"`)
    if (fronted || network === 'user') lines.push(`agent_listen = "127.0.0.1:${agentPort}"`)
    if (brick) {
      const manifest = JSON.parse(await readFile(brick.manifestPath, 'utf8')) as { builder: string }
      lines.push(`builders = ${JSON.stringify([manifest.builder])}`)
    }
    return `${lines.join('\n')}\n${config}`
  }
}

function brickOf(binaries: Binaries, options: MachineOptions, say: Progress): Promise<Brick> {
  const { agent, version } = binaries
  const keyPath = join(CACHE, 'builder.key')
  const test = options.testBrick ?? true
  return buildBrick({ agentBinary: agent, agentVersion: version, cacheDir: CACHE, keyPath, test }, say)
}
