/** A real broker in this process over the hypervisor in memory, with people who log in, a brick, and agents of a few lines. */
import { execFileSync } from 'node:child_process'
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import { chmodSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import type { Config } from '../../broker/config.ts'
import type { Log } from '../../broker/process/log.ts'
import { type Broker, startBroker } from '../../broker/serve.ts'
import type { HostFacts } from '../../broker/vms/host-room.ts'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { Identity } from '../../client/identity/identity.ts'
import { sealLaunchSecret } from '../../client/vms/sealed-secret.ts'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import { nobleSuite as suite } from '../../protocol/channel/noble-suite.ts'
import { ROUTES, type RouteName, type Vm } from '../../protocol/control/api.ts'
import { signLogin } from '../../protocol/control/login.ts'
import { type ManifestStatement, signManifest } from '../../protocol/control/manifest.ts'
import { type LaunchTicket, signTicket } from '../../protocol/control/ticket.ts'
import { decodeBase64url, decodeHex, encodeBase64url } from '../../protocol/core/bytes.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { FakeHypervisor } from '../support/fake-hypervisor.ts'
import { LoopbackNetwork } from '../support/loopback-network.ts'
import { ShiftClock } from './shift-clock.ts'

export type PersonName = 'owner' | 'other' | 'administrator'
export interface LogLine {
  readonly level: string
  readonly event: string
  readonly fields: Readonly<Record<string, unknown>>
}

/** An answer of the API, whatever it was. */
export interface Answer {
  readonly status: number
  // biome-ignore lint/suspicious/noExplicitAny: tests look into answers of every shape
  readonly json: any
  readonly code: string | undefined
}

export interface CallOptions {
  readonly id?: string
  readonly grantee?: string
  readonly query?: Record<string, string>
  readonly body?: unknown
  /** instead of the person's own */
  readonly token?: string
}

/** What the owner keeps of a launch, which the guest gets too. */
export interface Launch {
  readonly ticket: LaunchTicket
  readonly signed: Uint8Array
  readonly secret: Uint8Array
}

export const builderSeed = new Uint8Array(randomBytes(32))
const VIRTUAL_BYTES = 16 * 2 ** 20

export class Rig {
  readonly folder = mkdtempSync(join(tmpdir(), 'mortar-broker-test-'))
  readonly dataDir = join(this.folder, 'data')
  readonly driver = new FakeHypervisor()
  readonly clock = new ShiftClock()
  readonly network = new LoopbackNetwork()
  readonly log: LogLine[] = []
  readonly people: Readonly<Record<PersonName, Identity>>
  readonly #config: Partial<Config>
  readonly #tokens = new Map<PersonName, string>()
  readonly #apis = new Map<PersonName, BrokerApi>()
  #broker: Broker | undefined
  /** to which launches are sealed; asked for once, since asking takes a step of the hypervisor */
  #launcherKey: Uint8Array = new Uint8Array(32)
  brickSha256 = ''
  /** large, so that tests launch as many VMs as they like */
  host: HostFacts = { memoryMiB: 2 ** 20, cores: 64 }

  constructor(config: Partial<Config> = {}) {
    this.#config = config
    this.people = {
      owner: Identity.create(suite),
      other: Identity.create(suite),
      administrator: Identity.create(suite),
    }
    chmodSync(this.folder, 0o711)
  }

  /** Starts a broker, with a brick named `stone` unless told otherwise. */
  static async start({ brick = true, ...config }: Partial<Config> & { brick?: boolean } = {}): Promise<Rig> {
    const rig = new Rig(config)
    await rig.startBroker()
    if (brick) await rig.importBrick('stone')
    return rig
  }

  get broker(): Broker {
    if (!this.#broker) throw new Error('the broker does not run')
    return this.#broker
  }

  async startBroker(): Promise<void> {
    const key = (name: PersonName) => encodeBase64url(this.people[name].signKey)
    const write =
      (level: string) =>
      (event: string, fields: LogLine['fields'] = {}) => {
        this.log.push({ level, event, fields })
      }
    const config: Config = {
      dataDir: this.dataDir,
      listen: { host: '127.0.0.1', port: 0 },
      sshListen: null,
      network: 'isolated',
      subnet: undefined,
      agentListen: undefined,
      origins: [],
      users: new Set([key('owner'), key('other')]),
      administrators: new Set([key('administrator')]),
      builders: [signingPublicKey(builderSeed)],
      locksMemory: undefined,
      enrolWithinMs: 300_000,
      libvirtSocket: undefined,
      ...this.#config,
    }
    this.#broker = await this.launchBroker(config, { info: write('info'), warn: write('warn'), error: write('error') })
    this.#launcherKey = await this.api().launcherKey()
  }

  /** The broker itself: in this process, over the hypervisor in memory. */
  protected launchBroker(config: Config, log: Log): Promise<Broker> {
    return startBroker({ config, driver: this.driver, clock: this.clock, log, host: this.host, network: this.network })
  }

  async stopBroker(): Promise<void> {
    this.#tokens.clear()
    this.#apis.clear()
    const broker = this.#broker
    this.#broker = undefined
    await broker?.close()
  }

  async restart(): Promise<void> {
    await this.stopBroker()
    await this.startBroker()
  }

  async close(): Promise<void> {
    await this.stopBroker()
    rmSync(this.folder, { recursive: true, force: true })
  }

  /** The client library, logged in as the person. */
  api(name: PersonName = 'owner'): BrokerApi {
    const held = this.#apis.get(name)
    if (held) return held
    const api = new BrokerApi({ url: this.broker.origin, identity: this.people[name], pins: pinsInMemory() })
    this.#apis.set(name, api)
    return api
  }

  /** A call as any program could make it. */
  async call(
    who: PersonName | null,
    route: RouteName,
    { id = '', grantee = 'nobody', query, body, token }: CallOptions = {},
  ): Promise<Answer> {
    const { method, path } = ROUTES[route]
    const url =
      this.broker.origin +
      path.replace(':id', encodeURIComponent(id)).replace(':grantee', encodeURIComponent(grantee)) +
      (query ? `?${new URLSearchParams(query)}` : '')
    const bearer = token ?? (who === null ? undefined : await this.token(who))
    const headers = bearer === undefined ? {} : { authorization: `Bearer ${bearer}` }
    const sent = body instanceof Uint8Array ? Buffer.from(body) : body === undefined ? null : JSON.stringify(body)
    const response = await fetch(url, { method, headers, body: sent })
    // biome-ignore lint/suspicious/noExplicitAny: see Answer
    const json = (await response.json()) as any
    return { status: response.status, json, code: json?.error?.code }
  }

  async token(name: PersonName): Promise<string> {
    const held = this.#tokens.get(name)
    if (held) return held
    const identity = this.people[name]
    const user = encodeBase64url(identity.signKey)
    const { json } = await this.call(null, 'login.challenge', { body: { user } })
    const signature = identity.withSigningSeed(seed =>
      encodeBase64url(signLogin(decodeBase64url(json.nonce), decodeBase64url(this.broker.id), seed)),
    )
    const answer = await this.call(null, 'login.answer', { body: { user, nonce: json.nonce, signature } })
    this.#tokens.set(name, answer.json.token)
    return answer.json.token
  }

  /** Makes an image with its manifest; `bend` changes either before they are written. */
  makeBrick(name: string, bend: { manifest?: Partial<ManifestStatement>; seed?: Uint8Array; image?: string } = {}) {
    const folder = join(this.folder, `brick-${randomUUID()}`)
    mkdirSync(folder)
    const imagePath = bend.image ?? join(folder, 'image.qcow2')
    if (!bend.image) execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', imagePath, String(VIRTUAL_BYTES)])
    const manifest = signManifest(
      {
        format: 1,
        name,
        version: '1',
        sizeBytes: statSync(imagePath).size,
        virtualSizeBytes: VIRTUAL_BYTES,
        sha256: createHash('sha256').update(readFileSync(imagePath)).digest('hex'),
        agentVersion: '0.0.0',
        createdAt: new Date().toISOString(),
        ...bend.manifest,
      },
      bend.seed ?? builderSeed,
    )
    const manifestPath = join(folder, 'manifest.json')
    writeFileSync(manifestPath, JSON.stringify(manifest))
    return { imagePath, manifestPath, sha256: manifest.sha256 }
  }

  async importBrick(name: string): Promise<void> {
    const { imagePath, manifestPath, sha256 } = this.makeBrick(name)
    const { status, json } = await this.call('administrator', 'brick.import', { body: { imagePath, manifestPath } })
    if (status !== 200) throw new Error(JSON.stringify(json))
    this.brickSha256 = sha256
  }

  /** A signed ticket and its secret; `bend` changes the ticket before it is signed. */
  sign(bend: Partial<LaunchTicket> = {}, who: PersonName = 'owner', signer: PersonName = who): Launch {
    const secret = new Uint8Array(randomBytes(32))
    const identity = this.people[who]
    const ticket: LaunchTicket = {
      version: 1,
      vm: randomUUID(),
      launch: randomUUID(),
      owner: identity.signKey,
      ownerDh: identity.keys.publicKey,
      brick: decodeHex(this.brickSha256),
      broker: decodeBase64url(this.broker.id),
      commitment: launchCommitment(suite, secret),
      nonce: new Uint8Array(randomBytes(16)),
      expires: Math.floor(this.clock.now() / 1000) + 600,
      ...bend,
    }
    return { ticket, secret, signed: this.people[signer].withSigningSeed(seed => signTicket(ticket, seed)) }
  }

  /** Posts a launch. */
  async post(
    launch: Launch,
    name: string,
    who: PersonName = 'owner',
    brick = 'stone',
    size = { memoryMiB: 256, vcpus: 1 },
  ): Promise<Answer> {
    const options = { name, brick, ...size }
    const { vm, launch: id } = launch.ticket
    const sealedSecret = await sealLaunchSecret(suite, this.#launcherKey, { vm, launch: id, secret: launch.secret })
    const body = encodeCbor({ options, ticket: launch.signed, sealedSecret })
    return this.call(who, 'vm.create', { body })
  }

  /** Launches a VM that runs. */
  async launch(name: string, who: PersonName = 'owner'): Promise<Launch & { vm: Vm }> {
    const launch = this.sign({}, who)
    const { status, json } = await this.post(launch, name, who)
    if (status !== 200) throw new Error(JSON.stringify(json))
    return { ...launch, vm: json.vm }
  }

  async vm(id: string, who: PersonName = 'owner'): Promise<Vm> {
    return (await this.call(who, 'vm.show', { id })).json.vm
  }
}
