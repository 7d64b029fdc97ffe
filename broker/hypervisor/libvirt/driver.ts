/**
 * HypervisorDriver over libvirt and QEMU. Keeps one connection, makes it again when libvirt restarts, and turns its
 * events into ours. Domains without our mark in their name are never shown or touched.
 */
import { existsSync } from 'node:fs'
import { MortarError } from '../../../protocol/core/errors.ts'
import { type Acceleration, hostAcceleration } from '../acceleration.ts'
import type {
  DomainEvent,
  DomainStatus,
  DriveVolume,
  HypervisorDescription,
  HypervisorDriver,
  NetworkDefinition,
  VmDefinition,
} from '../driver.ts'
import { LibvirtConnection } from './connection.ts'
import { domainName, domainXml, driveAlias, driveTargets, driveXml, freeTarget } from './domain-xml.ts'
import { ensureNetwork, qemuGroup, removeNetwork } from './networks.ts'
import { DOMAIN_STATES, EVENTS, LIFECYCLE, type Procedure, STOPPED_DETAILS } from './procedures.ts'
import { ERROR_NUMBERS, LibvirtRefusal, readRefusal } from './refusals.ts'
import { type XdrReader, XdrWriter } from './xdr.ts'

/** modular daemons first, then the one daemon of older systems */
const SOCKETS = ['/run/libvirt/virtqemud-sock', '/run/libvirt/libvirt-sock']
const DETACH_MS = 30_000
const RECONNECT_MS = 1000
const GONE: ReadonlySet<string> = new Set(['stopped', 'crashed'])
const LIVE = 1
const UNDEFINE_ALL = 1 | 4 | 16

interface Domain {
  readonly name: string
  readonly uuid: Buffer
  readonly id: number
}

export class LibvirtDriver implements HypervisorDriver {
  readonly #socketPath: string
  readonly #acceleration: Acceleration
  readonly #locksMemory: boolean
  readonly #listeners: ((event: DomainEvent) => void)[] = []
  /** VMs known to run, so that what happens while libvirt is away can be told later */
  #running = new Set<string>()
  #connection: Promise<LibvirtConnection> | undefined
  #closed = false

  /** Software emulation keeps gigabytes of translated code, which would be locked too: memory is locked where KVM is, unless told otherwise. */
  constructor(
    socketPath?: string,
    acceleration = hostAcceleration(),
    locksMemory = acceleration.acceleration === 'kvm',
  ) {
    this.#socketPath = socketPath ?? SOCKETS.find(path => existsSync(path)) ?? (SOCKETS[1] as string)
    this.#acceleration = acceleration
    this.#locksMemory = locksMemory
  }

  async describe(): Promise<HypervisorDescription> {
    if (!existsSync('/usr/bin/qemu-system-x86_64')) throw new MortarError('qemu-missing', '/usr/bin/qemu-system-x86_64')
    const version = (await this.#call('connectGetVersion')).opaque(8).readUIntBE(2, 6)
    const [major, minor] = [Math.floor(version / 1_000_000), Math.floor(version / 1000) % 1000]
    return { hypervisor: `QEMU ${major}.${minor} by libvirt`, ...this.#acceleration, locksMemory: this.#locksMemory }
  }

  async define(vm: VmDefinition): Promise<void> {
    const options = { acceleration: this.#acceleration.acceleration, locksMemory: this.#locksMemory }
    await this.#call('domainDefineXml', new XdrWriter().text(domainXml(vm, options)).int(0))
  }

  async start(vmId: string): Promise<void> {
    await this.#onDomain(vmId, 'domainCreate', writer => writer.int(0), [ERROR_NUMBERS.operationInvalid])
  }

  async shutdown(vmId: string): Promise<void> {
    await this.#onDomain(vmId, 'domainShutdown', undefined, [ERROR_NUMBERS.operationInvalid])
  }

  async destroy(vmId: string): Promise<void> {
    await this.#onDomain(vmId, 'domainDestroy', undefined, [ERROR_NUMBERS.operationInvalid])
  }

  async undefine(vmId: string): Promise<void> {
    await this.#onDomain(vmId, 'domainUndefine', writer => writer.int(UNDEFINE_ALL), [])
  }

  async attachDrive(vmId: string, volume: DriveVolume): Promise<void> {
    const { used, ofSerial } = driveTargets(await this.#xml(vmId))
    if (ofSerial(volume.serial)) return
    const target = freeTarget(used)
    if (!target) throw new MortarError('limit-exceeded', 'a VM takes 26 drives')
    await this.#onDomain(vmId, 'domainAttachDevice', writer => writer.text(driveXml(volume, target)).int(LIVE), [])
  }

  async detachDrive(vmId: string, volume: DriveVolume): Promise<void> {
    const target = driveTargets(await this.#xml(vmId)).ofSerial(volume.serial)
    if (!target) return
    const removed = this.#untilDetached(vmId, volume.driveId)
    try {
      await this.#onDomain(vmId, 'domainDetachDevice', writer => writer.text(driveXml(volume, target)).int(LIVE), [])
      await removed.promise
    } finally {
      removed.cancel()
    }
  }

  ensureNetwork(network: NetworkDefinition): Promise<void> {
    return this.#meaning(connection => ensureNetwork(connection, network))
  }

  removeNetwork(name: string): Promise<void> {
    return this.#meaning(connection => removeNetwork(connection, name))
  }

  qemuGroup(): Promise<number> {
    return this.#meaning(qemuGroup)
  }

  async list(): Promise<readonly DomainStatus[]> {
    return this.#list(await this.#open())
  }

  onEvent(listener: (event: DomainEvent) => void): void {
    this.#listeners.push(listener)
  }

  close(): void {
    this.#closed = true
    void this.#connection?.then(
      connection => connection.close(),
      () => undefined,
    )
  }

  async #xml(vmId: string): Promise<string> {
    return (await this.#onDomain(vmId, 'domainGetXml', writer => writer.int(0), [])).text()
  }

  /** A call on one of our domains; refusals whose number is in `harmless` mean that the step was done before. */
  async #onDomain(
    vmId: string,
    procedure: Procedure,
    add: ((writer: XdrWriter) => XdrWriter) | undefined,
    harmless: readonly number[],
  ): Promise<XdrReader> {
    const uuid = Buffer.from(vmId.replaceAll('-', ''), 'hex')
    const found = await this.#call('domainLookupByUuid', new XdrWriter().opaque(uuid))
    const domain = readDomain(found)
    if (domain.name !== domainName(vmId)) throw new MortarError('not-found', `the domain ${domain.name} is not ours`)
    const writer = writeDomain(domain)
    const connection = await this.#open()
    try {
      return await connection.call(procedure, add?.(writer) ?? writer)
    } catch (refusal) {
      if (!(refusal instanceof LibvirtRefusal)) throw refusal
      if (harmless.includes(refusal.number)) return found
      throw readRefusal(refusal)
    }
  }

  #call(procedure: Procedure, body?: XdrWriter): Promise<XdrReader> {
    return this.#meaning(connection => connection.call(procedure, body))
  }

  /** A job whose refusals are told as the errors that the broker switches on. */
  async #meaning<T>(job: (connection: LibvirtConnection) => Promise<T>): Promise<T> {
    try {
      return await job(await this.#open())
    } catch (refusal) {
      throw refusal instanceof LibvirtRefusal ? readRefusal(refusal) : refusal
    }
  }

  #open(): Promise<LibvirtConnection> {
    this.#connection ??= this.#connect()
    return this.#connection
  }

  async #connect(): Promise<LibvirtConnection> {
    let connection: LibvirtConnection | undefined
    try {
      connection = await LibvirtConnection.open(this.#socketPath, 'qemu:///system', {
        onMessage: (procedure, body) => this.#receive(procedure, body),
        onClosed: () => this.#reconnect(),
      })
      for (const { id } of Object.values(EVENTS)) await connection.call('registerEvent', new XdrWriter().int(id).int(0))
      await this.#catchUp(connection)
      return connection
    } catch (cause) {
      connection?.close()
      this.#connection = undefined
      throw cause
    }
  }

  /** Tells as events what happened while there was no connection. */
  async #catchUp(connection: LibvirtConnection): Promise<void> {
    const now = new Set<string>()
    for (const { vmId, state } of await this.#list(connection))
      if (state === 'running' || state === 'paused') now.add(vmId)
    for (const vmId of [...this.#running]) {
      if (!now.has(vmId)) this.#emit({ vmId, kind: 'stopped', detail: 'while libvirt was away' })
    }
    this.#running = now
  }

  async #list(connection: LibvirtConnection): Promise<readonly DomainStatus[]> {
    const answer = await connection.call('listAllDomains', new XdrWriter().int(1).int(0))
    const domains: Domain[] = []
    for (let count = answer.int(); count > 0; count--) domains.push(readDomain(answer))
    const statuses = domains
      .map(domain => ({ domain, vmId: formatUuid(domain.uuid) }))
      .filter(({ domain, vmId }) => domain.name === domainName(vmId))
      .map(async ({ domain, vmId }): Promise<readonly DomainStatus[]> => {
        try {
          const state = (await connection.call('domainGetState', writeDomain(domain).int(0))).int()
          return [{ vmId, state: DOMAIN_STATES[state] ?? 'crashed' }]
        } catch (refusal) {
          // removed between the two calls
          if (refusal instanceof LibvirtRefusal && refusal.number === ERROR_NUMBERS.noDomain) return []
          throw refusal
        }
      })
    return (await Promise.all(statuses)).flat()
  }

  /** Listens again as soon as libvirt is back; calls in between fail with libvirt-down. */
  #reconnect(): void {
    this.#connection = undefined
    if (this.#closed) return
    setTimeout(() => {
      if (this.#closed || this.#connection) return
      this.#open().catch(() => this.#reconnect())
    }, RECONNECT_MS).unref()
  }

  #receive(procedure: number, body: XdrReader): void {
    body.int() // callback id
    const domain = readDomain(body)
    const vmId = formatUuid(domain.uuid)
    if (domain.name !== domainName(vmId)) return
    if (procedure === EVENTS.reboot.message) this.#emit({ vmId, kind: 'rebooted', detail: '' })
    else if (procedure === EVENTS.deviceRemoved.message) {
      const driveId = driveAlias.driveId(body.text())
      if (driveId !== undefined) this.#emit({ vmId, kind: 'drive-detached', detail: driveId })
    } else if (procedure === EVENTS.lifecycle.message) {
      const [event, detail] = [body.int(), body.int()]
      if (event === LIFECYCLE.started) this.#emit({ vmId, kind: 'started', detail: '' })
      else if (event === LIFECYCLE.crashed) this.#emit({ vmId, kind: 'crashed', detail: '' })
      else if (event === LIFECYCLE.stopped) {
        const why = STOPPED_DETAILS[detail] ?? 'stopped'
        this.#emit({ vmId, kind: why === 'crashed' || why === 'failed' ? 'crashed' : 'stopped', detail: why })
      }
    }
  }

  #emit(event: DomainEvent): void {
    if (event.kind === 'started') this.#running.add(event.vmId)
    else if (event.kind === 'stopped' || event.kind === 'crashed') this.#running.delete(event.vmId)
    for (const listener of [...this.#listeners]) listener(event)
  }

  /** Settles when the drive is gone, which the end of its VM is too. */
  #untilDetached(vmId: string, driveId: string): { promise: Promise<void>; cancel: () => void } {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const listener = (event: DomainEvent) => {
      if (event.vmId !== vmId) return
      if (event.kind === 'drive-detached' ? event.detail === driveId : GONE.has(event.kind)) resolve()
    }
    this.#listeners.push(listener)
    const timer = setTimeout(() => reject(new MortarError('timeout', 'the guest holds on to the drive')), DETACH_MS)
    promise.catch(() => undefined)
    return {
      promise,
      cancel: () => {
        clearTimeout(timer)
        this.#listeners.splice(this.#listeners.indexOf(listener), 1)
      },
    }
  }
}

function readDomain(reader: XdrReader): Domain {
  return { name: reader.text(), uuid: Buffer.from(reader.opaque(16)), id: reader.int() }
}

function writeDomain(domain: Domain): XdrWriter {
  return new XdrWriter().text(domain.name).opaque(domain.uuid).int(domain.id)
}

function formatUuid(bytes: Buffer): string {
  return bytes.toString('hex').replace(/^(.{8})(.{4})(.{4})(.{4})/, '$1-$2-$3-$4-')
}
