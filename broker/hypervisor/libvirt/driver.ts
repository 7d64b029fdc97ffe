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
  VmDefinition,
} from '../driver.ts'
import { LibvirtConnection, LibvirtRefusal } from './connection.ts'
import { domainXml, driveTargets, driveXml, freeTarget } from './domain-xml.ts'
import { DOMAIN_STATES, ERROR_NUMBERS, EVENTS, LIFECYCLE, type Procedure, STOPPED_DETAILS } from './procedures.ts'
import { type XdrReader, XdrWriter } from './xdr.ts'

/** modular daemons first, then the one daemon of older systems */
const SOCKETS = ['/run/libvirt/virtqemud-sock', '/run/libvirt/libvirt-sock']
const DETACH_MS = 30_000
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
  readonly #listeners: ((event: DomainEvent) => void)[] = []
  #connection: Promise<LibvirtConnection> | undefined
  #closed = false

  constructor(socketPath?: string, acceleration = hostAcceleration()) {
    this.#socketPath = socketPath ?? SOCKETS.find(path => existsSync(path)) ?? (SOCKETS[1] as string)
    this.#acceleration = acceleration
  }

  async describe(): Promise<HypervisorDescription> {
    if (!existsSync('/usr/bin/qemu-system-x86_64')) throw new MortarError('qemu-missing', '/usr/bin/qemu-system-x86_64')
    const version = (await this.#call('connectGetVersion')).opaque(8).readUIntBE(2, 6)
    const [major, minor] = [Math.floor(version / 1_000_000), Math.floor(version / 1000) % 1000]
    return { hypervisor: `QEMU ${major}.${minor} by libvirt`, ...this.#acceleration }
  }

  async define(vm: VmDefinition): Promise<void> {
    await this.#call('domainDefineXml', new XdrWriter().text(domainXml(vm, this.#acceleration.acceleration)).int(0))
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
    const removed = this.#nextEvent(
      event => event.vmId === vmId && event.kind !== 'started' && event.detail.includes(volume.driveId),
    )
    try {
      await this.#onDomain(vmId, 'domainDetachDevice', writer => writer.text(driveXml(volume, target)).int(LIVE), [])
      await removed.promise
    } finally {
      removed.cancel()
    }
  }

  async list(): Promise<readonly DomainStatus[]> {
    const answer = await this.#call('listAllDomains', new XdrWriter().int(1).int(0))
    const domains: Domain[] = []
    for (let count = answer.int(); count > 0; count--) domains.push(readDomain(answer))
    const ours = domains.filter(domain => domain.name.startsWith('mortar-'))
    return Promise.all(
      ours.map(async domain => {
        const state = (await this.#call('domainGetState', writeDomain(domain).int(0))).int()
        return { vmId: formatUuid(domain.uuid), state: DOMAIN_STATES[state] ?? 'crashed' }
      }),
    )
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

  /** A call on a domain; refusals whose number is in `harmless` mean that the step was done before. */
  async #onDomain(
    vmId: string,
    procedure: Procedure,
    add: ((writer: XdrWriter) => XdrWriter) | undefined,
    harmless: readonly number[],
  ): Promise<XdrReader> {
    const uuid = Buffer.from(vmId.replaceAll('-', ''), 'hex')
    const found = await this.#call('domainLookupByUuid', new XdrWriter().opaque(uuid))
    const writer = writeDomain(readDomain(found))
    try {
      return await this.#call(procedure, add?.(writer) ?? writer)
    } catch (refusal) {
      if (refusal instanceof LibvirtRefusal && harmless.includes(refusal.number) && !/resource/.test(refusal.detail))
        return found
      throw refusal
    }
  }

  async #call(procedure: Procedure, body?: XdrWriter): Promise<XdrReader> {
    this.#connection ??= this.#connect()
    try {
      return await (await this.#connection).call(procedure, body)
    } catch (refusal) {
      if (refusal instanceof LibvirtRefusal && refusal.number === ERROR_NUMBERS.noDomain)
        throw new MortarError('not-found', refusal.detail, { cause: refusal })
      if (refusal instanceof LibvirtRefusal && /No space left/.test(refusal.detail))
        throw new MortarError('no-space', refusal.detail, { cause: refusal })
      if (refusal instanceof LibvirtRefusal && /emulator/.test(refusal.detail))
        throw new MortarError('qemu-missing', refusal.detail, { cause: refusal })
      throw refusal
    }
  }

  async #connect(): Promise<LibvirtConnection> {
    try {
      const connection = await LibvirtConnection.open(this.#socketPath, 'qemu:///system', {
        onMessage: (procedure, body) => this.#receive(procedure, body),
        onClosed: () => this.#reconnect(),
      })
      for (const { id } of Object.values(EVENTS)) await connection.call('registerEvent', new XdrWriter().int(id).int(0))
      return connection
    } catch (cause) {
      this.#connection = undefined
      throw cause
    }
  }

  /** Listens again as soon as libvirt is back; calls in between fail with libvirt-down. */
  #reconnect(): void {
    this.#connection = undefined
    if (this.#closed) return
    setTimeout(() => {
      if (this.#closed || this.#connection) return
      this.#connection = this.#connect()
      this.#connection.catch(() => this.#reconnect())
    }, 1000).unref()
  }

  #receive(procedure: number, body: XdrReader): void {
    body.int() // callback id
    const domain = readDomain(body)
    if (!domain.name.startsWith('mortar-')) return
    const emit = (kind: DomainEvent['kind'], detail: string) => {
      for (const listener of [...this.#listeners]) listener({ vmId: formatUuid(domain.uuid), kind, detail })
    }
    if (procedure === EVENTS.reboot.message) emit('rebooted', '')
    else if (procedure === EVENTS.deviceRemoved.message) emit('drive-detached', body.text())
    else if (procedure === EVENTS.lifecycle.message) {
      const [event, detail] = [body.int(), body.int()]
      if (event === LIFECYCLE.started) emit('started', '')
      else if (event === LIFECYCLE.crashed) emit('crashed', '')
      else if (event === LIFECYCLE.stopped) {
        const why = STOPPED_DETAILS[detail] ?? 'stopped'
        emit(why === 'crashed' || why === 'failed' ? 'crashed' : 'stopped', why)
      }
    }
  }

  #nextEvent(wanted: (event: DomainEvent) => boolean): { promise: Promise<void>; cancel: () => void } {
    const { promise, resolve, reject } = Promise.withResolvers<void>()
    const listener = (event: DomainEvent) => {
      if (wanted(event) || event.kind === 'stopped') resolve()
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
