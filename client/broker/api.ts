/** The broker's HTTP API as typed calls: one method for each row of ROUTES; logs in by itself when a call needs it. SPEC §3 */
import type { z } from 'zod'
import * as api from '../../protocol/control/api.ts'
import { verifyLauncherKey } from '../../protocol/control/launcher.ts'
import { signLogin, verifyBrokerProof } from '../../protocol/control/login.ts'
import { decodeBase64url, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { object, z as zod } from '../../protocol/core/schema.ts'
import type { Identity } from '../identity/identity.ts'
import { type KnownVms, knownVmsInMemory } from '../vms/known-vms.ts'
import { type BrokerRequest, parseBrokerUrl, REQUEST_MS, requestBroker } from './request.ts'

/** for what the hypervisor does while the request waits */
const SLOW_MS = 120_000
/** an image of some GiB is read and hashed */
const IMPORT_MS = 600_000
const LARGEST_LIST_BYTES = 33_554_432
const LARGEST_LOG_BYTES = 16_777_216

export type BrokerInfo = z.output<typeof api.brokerInfo>
export type Brick = z.output<typeof api.brick>
export type SessionTicket = z.output<typeof api.sessionAnswer>
export type Role = z.output<typeof api.loginAnswer>['role']

const brickList = object({ bricks: zod.array(api.brick).max(1000) })
const vmList = object({ vms: zod.array(api.vm).max(10_000) })
const driveList = object({ drives: zod.array(api.drive).max(10_000) })
const oneBrick = object({ brick: api.brick })
const oneVm = object({ vm: api.vm })
const sshKeyList = object({ keys: zod.array(api.sshKey).max(1_000) })
const oneDrive = object({ drive: api.drive })
/** answers that nobody reads */
const anything = zod.unknown()

/** Remembers the key of the broker at an address, so that another one there is noticed. */
export interface BrokerPins {
  /** the Ed25519 key known for this address, or null at the first visit */
  read(url: string): Promise<Uint8Array | null>
  write(url: string, key: Uint8Array): Promise<void>
  /** an address for which this key is known, or null */
  addressOf(key: Uint8Array): Promise<string | null>
}

/** Pins for as long as the program runs. */
export function pinsInMemory(): BrokerPins {
  const keys = new Map<string, Uint8Array>()
  return {
    read: async url => keys.get(url) ?? null,
    write: async (url, key) => void keys.set(url, key),
    addressOf: async key => [...keys].find(([, known]) => equalBytes(known, key))?.[0] ?? null,
  }
}

export interface BrokerApiOptions {
  /** http or https address of the broker */
  readonly url: string
  /** who logs in; without one only info() can be called */
  readonly identity?: Identity
  readonly pins: BrokerPins
  /** what was certified before; for as long as the program runs unless given */
  readonly knownVms?: KnownVms
  /** told of each thing that is waited for; resolves as `work` does */
  during?<T>(text: string, work: Promise<T>): Promise<T>
}

/** The thing asked for and no other: names are the broker's to keep, ids are not. Fails with protocol-violation. */
function requireId<T extends { readonly id: string }>(id: string, thing: T): T {
  if (thing.id === id) return thing
  throw new MortarError('vm-mismatch', `asked for ${id}, it answered with ${thing.id}`)
}

/** An address whose traffic does not leave this machine, of which a tunnel may make several. */
const isLocal = (url: string) => ['127.0.0.1', '[::1]', 'localhost'].includes(new URL(url).hostname)

export class BrokerApi {
  readonly url: string
  readonly knownVms: KnownVms
  readonly #options: BrokerApiOptions
  #login: Promise<{ token: string; role: Role }> | undefined
  #key: Uint8Array | undefined

  constructor(options: BrokerApiOptions) {
    this.#options = options
    this.url = parseBrokerUrl(options.url)
    this.knownVms = options.knownVms ?? knownVmsInMemory()
  }

  /** Address of the joined sockets, ws:// or wss://. */
  get joinUrl(): string {
    return this.url.replace(/^http/, 'ws') + api.JOIN_PATH
  }

  /** The user's Ed25519 key as it stands in `owner`; empty without an identity. */
  get user(): string {
    const { identity } = this.#options
    return identity ? encodeBase64url(identity.signKey) : ''
  }

  info(): Promise<BrokerInfo> {
    return this.#request({ route: 'broker.show', answer: api.brokerInfo })
  }

  /** The launcher's X25519 key, signed by the broker's. Fails with broker-mismatch. SPEC §2.6 */
  async launcherKey(): Promise<Uint8Array> {
    const broker = await this.key()
    const { launcher } = await this.info()
    const key = decodeBase64url(launcher.key)
    if (!verifyLauncherKey(key, decodeBase64url(launcher.signature), broker)) {
      throw new MortarError('broker-mismatch', `${this.url} did not sign its launcher's key`)
    }
    return key
  }

  #request<S extends z.ZodType>(request: BrokerRequest<S>): Promise<z.output<S>> {
    const work = requestBroker(this.url, request)
    return this.#options.during?.(`waiting for the broker at ${this.url}`, work) ?? work
  }

  /** The broker's Ed25519 key (32 bytes), proven at login and equal to the pinned one. */
  async key(): Promise<Uint8Array> {
    await this.login()
    return this.#key as Uint8Array
  }

  /**
   * Logs in unless that is done. The broker proves its key first; the key is pinned at the first visit. Fails with
   * identity-wrong, broker-mismatch, broker-unreachable, connection-lost.
   */
  async login(): Promise<Role> {
    this.#login ??= this.#logIn()
    try {
      return (await this.#login).role
    } catch (thrown) {
      this.#login = undefined
      throw thrown
    }
  }

  async #logIn(): Promise<{ token: string; role: Role }> {
    const { identity, pins } = this.#options
    if (!identity) throw new MortarError('identity-missing')
    const user = encodeBase64url(identity.signKey)
    const { nonce, brokerProof } = await this.#request({
      route: 'login.challenge',
      body: { user },
      answer: api.challengeAnswer,
    })
    const pinned = await pins.read(this.url)
    const key = pinned ?? decodeBase64url((await this.info()).id)
    const nonceBytes = decodeBase64url(nonce)
    if (!verifyBrokerProof(nonceBytes, identity.signKey, decodeBase64url(brokerProof), key)) {
      throw new MortarError('broker-mismatch', `${this.url} does not prove the key ${encodeBase64url(key)}`)
    }
    if (!pinned) await this.#requireNew(key)
    const signature = identity.withSigningSeed(seed => encodeBase64url(signLogin(nonceBytes, key, seed)))
    const { token, role } = await this.#request({
      route: 'login.answer',
      body: { user, nonce, signature },
      answer: api.loginAnswer,
    })
    if (!pinned) await pins.write(this.url, key)
    if (this.#key && !equalBytes(this.#key, key)) throw new MortarError('broker-mismatch', this.url)
    this.#key = key
    return { token, role }
  }

  /**
   * Refuses a key that is known for another address: whoever is there may only be passing on what a known broker says, to
   * be logged in at it as this user. Fails with broker-mismatch.
   */
  async #requireNew(key: Uint8Array): Promise<void> {
    const known = await this.#options.pins.addressOf(key)
    if (known === null || isLocal(this.url)) return
    const detail = `${this.url} shows the key of the broker known at ${known}; use that address, or if both are the same broker add this one to the known brokers, with that key`
    throw new MortarError('broker-mismatch', detail)
  }

  /** A call as the logged-in user; logs in again once when the login has expired. */
  async #call<S extends z.ZodType>(request: BrokerRequest<S>): Promise<z.output<S>> {
    await this.login()
    const login = this.#login
    try {
      return await this.#request({ ...request, token: (await login)?.token })
    } catch (thrown) {
      if (!(thrown instanceof MortarError) || thrown.code !== 'login-expired') throw thrown
      // another call may have logged in again meanwhile
      if (this.#login === login) this.#login = undefined
      await this.login()
      return this.#request({ ...request, token: (await this.#login)?.token })
    }
  }

  async bricks(): Promise<Brick[]> {
    return (await this.#call({ route: 'brick.list', answer: brickList })).bricks
  }

  /** Imports an image that lies on the broker's host; administrators only. May take minutes. */
  async importBrick(imagePath: string, manifestPath: string): Promise<Brick> {
    const body = { imagePath, manifestPath }
    return (await this.#call({ route: 'brick.import', body, answer: oneBrick, timeoutMs: IMPORT_MS })).brick
  }

  async deleteBrick(name: string): Promise<void> {
    await this.#call({ route: 'brick.delete', id: name, answer: anything })
  }

  async vms(): Promise<api.Vm[]> {
    return (await this.#call({ route: 'vm.list', answer: vmList, limitBytes: LARGEST_LIST_BYTES })).vms
  }

  /** `launch`: CBOR of launchRequest, which holds a secret: the caller wipes it. */
  async createVm(launch: Uint8Array): Promise<api.Vm> {
    return (await this.#call({ route: 'vm.create', body: launch, answer: oneVm, timeoutMs: SLOW_MS })).vm
  }

  async vm(id: string): Promise<api.Vm> {
    return requireId(id, (await this.#call({ route: 'vm.show', id, answer: oneVm })).vm)
  }

  /** The VM once its revision is another than `after`, or as it is after `timeoutMs`. */
  async vmChange(id: string, after: number, timeoutMs: number, signal?: AbortSignal): Promise<api.Vm> {
    const query = { after: String(after), timeoutMs: String(timeoutMs) }
    const patience = { timeoutMs: timeoutMs + REQUEST_MS, signal }
    return requireId(id, (await this.#call({ route: 'vm.show', id, query, answer: oneVm, ...patience })).vm)
  }

  async stopVm(id: string): Promise<void> {
    await this.#call({ route: 'vm.stop', id, answer: anything, timeoutMs: SLOW_MS })
  }

  async deleteVm(id: string): Promise<void> {
    await this.#call({ route: 'vm.delete', id, answer: anything, timeoutMs: SLOW_MS })
  }

  /** The VM's console as the broker kept it. */
  async vmLog(id: string): Promise<string> {
    return (await this.#call({ route: 'vm.log', id, answer: api.vmLog, limitBytes: LARGEST_LOG_BYTES })).console
  }

  async certifyVm(id: string, certificate: Uint8Array): Promise<void> {
    const body = { certificate: encodeBase64url(certificate) }
    await this.#call({ route: 'vm.certify', id, body, answer: anything })
  }

  /** Leaves a signed grant at the broker for its grantee. */
  async putGrant(id: string, grant: Uint8Array): Promise<void> {
    await this.#call({ route: 'vm.grant', id, body: { grant: encodeBase64url(grant) }, answer: anything })
  }

  /** Has the broker forget a grant, if it has one. `grantee`: Ed25519 key, base64url. */
  async deleteGrant(id: string, grantee: string): Promise<void> {
    await this.#call({ route: 'vm.ungrant', id, grantee, answer: anything })
  }

  /** A token for this end of a joined pair; the broker offers the other end to the VM's agent, or to the boot of that Ed25519 key. */
  createSession(id: string, kind: 'channel' | 'ssh', agent?: string): Promise<SessionTicket> {
    const body = agent === undefined ? { kind } : { kind, agent }
    return this.#call({ route: 'vm.session', id, body, answer: api.sessionAnswer })
  }

  async drives(): Promise<api.Drive[]> {
    return (await this.#call({ route: 'drive.list', answer: driveList, limitBytes: LARGEST_LIST_BYTES })).drives
  }

  async createDrive(drive: z.output<typeof api.driveCreate>): Promise<api.Drive> {
    const request = { route: 'drive.create', body: drive, answer: oneDrive, timeoutMs: SLOW_MS } as const
    return requireId(drive.id, (await this.#call(request)).drive)
  }

  async putDriveNote(id: string, note: string): Promise<void> {
    await this.#call({ route: 'drive.note', id, body: { note }, answer: anything })
  }

  async attachDrive(id: string, vm: string): Promise<api.Drive> {
    const request = { route: 'drive.attach', id, body: { vm }, answer: oneDrive, timeoutMs: SLOW_MS } as const
    return requireId(id, (await this.#call(request)).drive)
  }

  async detachDrive(id: string): Promise<api.Drive> {
    return requireId(id, (await this.#call({ route: 'drive.detach', id, answer: oneDrive, timeoutMs: SLOW_MS })).drive)
  }

  async deleteDrive(id: string): Promise<void> {
    await this.#call({ route: 'drive.delete', id, answer: anything })
  }

  /** The keys that may log in at the jump host as this user. */
  async sshKeys(): Promise<api.SshKey[]> {
    return (await this.#call({ route: 'ssh.list', answer: sshKeyList })).keys
  }

  /** Lets an OpenSSH public key log in at the jump host as this user. */
  async registerSshKey(publicKey: string): Promise<api.SshKey> {
    return (await this.#call({ route: 'ssh.key', body: { publicKey }, answer: object({ key: api.sshKey }) })).key
  }

  async removeSshKey(id: string): Promise<void> {
    await this.#call({ route: 'ssh.remove', id, answer: anything })
  }
}
