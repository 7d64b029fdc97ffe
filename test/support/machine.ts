/**
 * A whole Mortar on this machine, as people have it: the built programs, a broker over the real libvirt, a brick, and
 * three people with identities. Tests and the demo drive it by the command `mortar`, or by the client library.
 */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { chmod, mkdir, mkdtemp, readFile, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { type Binaries, buildBinaries } from '../../images/build-binaries.ts'
import { buildBrick } from '../../images/build-brick.ts'
import type { Brick } from '../../images/sign-brick.ts'
import type { Progress } from '../../images/steps.ts'
import { accountOf } from '../../protocol/control/account.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { parseIdentity } from '../../protocol/control/login.ts'
import { removeDomainsOf } from './domains.ts'
import { ensureLibvirt } from './libvirt-daemons.ts'
import { type Outcome, type ProgramOptions, runProgram } from './program.ts'

const CACHE = '/var/cache/mortar'
/** of the broker's log, shown when a command fails */
const LOG_LINES = 8

export interface Person {
  readonly name: string
  readonly home: string
  readonly identityPath: string
  /** public identity, mortar1… */
  readonly identity: string
}

export type Stage = <T>(name: string, run: (say: Progress) => Promise<T>) => Promise<T>

export interface MachineOptions {
  /** parent of the machine's folder; QEMU's user must be able to enter it */
  readonly parent?: string
  /** where agents dial instead of the broker itself: the port of a tap on the host's loopback */
  readonly agentPort?: number
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
  readonly people: Readonly<Record<'owner' | 'administrator' | 'other', Person>>
  readonly #options: MachineOptions
  readonly #kept: ChildProcess[] = []
  #broker: ChildProcess | undefined
  /** true once it was left running: dispose() is then somebody else's */
  left = false
  #listening = ''
  #ssh = ''

  private constructor(
    folder: string,
    binaries: Binaries,
    brick: Brick | undefined,
    people: Machine['people'],
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
    const { listening, ssh } = JSON.parse(line) as { listening: string; ssh: string }
    this.#listening = listening
    this.#ssh = ssh
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
    await rm(this.folder, { recursive: true, force: true })
  }

  async #config(): Promise<string> {
    const { people, brick } = this
    const port = this.#listening === '' ? 0 : Number(new URL(this.#listening).port)
    const sshPort = this.#ssh === '' ? 0 : Number(this.#ssh.split(':').at(-1))
    const { agentPort, enrolWithinSeconds = 300, config = '', origins = [] } = this.#options
    const lines = [
      `data_dir = ${JSON.stringify(this.dataDir)}`,
      `listen = "127.0.0.1:${port}"`,
      `ssh_listen = "127.0.0.1:${sshPort}"`,
      `users = ${JSON.stringify([people.owner.identity, people.other.identity])}`,
      `administrators = ${JSON.stringify([people.administrator.identity])}`,
      `origins = ${JSON.stringify(origins)}`,
      `enrol_within_seconds = ${enrolWithinSeconds}`,
    ]
    if (agentPort !== undefined) lines.push(`agent_url = "ws://10.0.2.2:${agentPort}/v1/agent"`)
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

async function newPeople(folder: string, client: string): Promise<Machine['people']> {
  return {
    owner: await newPerson(folder, client, 'owner'),
    administrator: await newPerson(folder, client, 'administrator'),
    other: await newPerson(folder, client, 'other'),
  }
}

/** The person's account in VMs. */
export function accountNameOf({ identity }: Person): string {
  return accountOf(parseIdentity(identity).sign).name
}

async function newPerson(folder: string, client: string, name: string): Promise<Person> {
  const home = join(folder, name)
  await mkdir(home, { mode: 0o700 })
  const identityPath = join(home, 'identity')
  const env = { HOME: home, MORTAR_IDENTITY: identityPath }
  const { code, stdout, stderr } = await runProgram(client, ['--json', 'identity', 'create', '--no-passphrase'], {
    env,
  })
  if (code !== 0) throw new Error(`identity create ended with ${code}: ${stderr}`)
  const { identity } = JSON.parse(stdout) as { identity: string }
  return { name, home, identityPath, identity }
}
