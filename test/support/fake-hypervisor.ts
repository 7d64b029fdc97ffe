/**
 * A hypervisor in memory, for tests of what sits above it. It passes the same contract as the real driver
 * (test/contracts/hypervisor.test.ts); beyond that it lets a test pull the strings that a guest or a fault would.
 */
import { randomUUID } from 'node:crypto'
import type {
  DomainEvent,
  DomainState,
  DomainStatus,
  DriveVolume,
  HypervisorDescription,
  HypervisorDriver,
  NetworkDefinition,
  VmDefinition,
} from '../../broker/hypervisor/driver.ts'
import { MortarError } from '../../protocol/core/errors.ts'

export interface FakeDomain {
  definition: VmDefinition
  state: DomainState
  readonly drives: Map<string, DriveVolume>
}

type Step =
  | 'describe'
  | 'define'
  | 'start'
  | 'shutdown'
  | 'destroy'
  | 'undefine'
  | 'attachDrive'
  | 'detachDrive'
  | 'list'
  | 'ensureNetwork'
  | 'removeNetwork'

export class FakeHypervisor implements HypervisorDriver {
  /** what is defined, by VM id; a test may look, and should change it only by the methods below */
  readonly domains = new Map<string, FakeDomain>()
  /** every step taken, in order: `start 1f2e…` */
  readonly steps: string[] = []
  readonly networks = new Map<string, NetworkDefinition>()
  readonly #foreign = new Set<string>()
  readonly #failures = new Map<Step, MortarError[]>()
  readonly #listeners: ((event: DomainEvent) => void)[] = []
  #down = false
  /** whether the guest obeys shutdown(); a stubborn one goes on running */
  guestObeys = true
  /** whether the guest lets go of drives */
  guestReleasesDrives = true

  /** The next call of `step` fails with `error`; several calls queue up. */
  failNext(step: Step, error: MortarError): void {
    this.#failures.set(step, [...(this.#failures.get(step) ?? []), error])
  }

  /** While down every step fails with libvirt-down; what happens in the meantime is told afterwards, as the real one does. */
  setDown(down: boolean): void {
    this.#down = down
  }

  /** A domain of somebody else; returns its id. */
  addForeign(): string {
    const vmId = randomUUID()
    this.#foreign.add(vmId)
    return vmId
  }

  /** The guest powers off, QEMU dies, or the guest reboots. */
  powerOff(vmId: string): void {
    this.#stop(vmId, 'stopped', 'shut down')
  }
  crash(vmId: string): void {
    this.#stop(vmId, 'crashed', 'failed')
  }
  reboot(vmId: string): void {
    this.#emit({ vmId, kind: 'rebooted', detail: '' })
  }

  describe(): Promise<HypervisorDescription> {
    return this.#take('describe', undefined, () => ({
      hypervisor: 'fake 1.0',
      acceleration: 'tcg' as const,
      reason: 'nothing is emulated at all',
      locksMemory: false,
    }))
  }

  define(vm: VmDefinition): Promise<void> {
    return this.#take('define', vm.vmId, () => {
      if (this.#foreign.has(vm.vmId)) throw new MortarError('libvirt-failed', 'the id belongs to another domain')
      const existing = this.domains.get(vm.vmId)
      if (existing) existing.definition = vm
      else this.domains.set(vm.vmId, { definition: vm, state: 'stopped', drives: new Map() })
    })
  }

  start(vmId: string): Promise<void> {
    return this.#take('start', vmId, () => {
      const domain = this.#find(vmId)
      if (domain.state === 'running') return
      const { network } = domain.definition
      if (network.kind === 'isolated' && !this.networks.has(network.network))
        throw new MortarError('libvirt-failed', `no network ${network.network}`)
      domain.state = 'running'
      this.#emit({ vmId, kind: 'started', detail: '' })
    })
  }

  shutdown(vmId: string): Promise<void> {
    return this.#take('shutdown', vmId, () => {
      if (this.#find(vmId).state === 'running' && this.guestObeys) setImmediate(() => this.powerOff(vmId))
    })
  }

  destroy(vmId: string): Promise<void> {
    return this.#take('destroy', vmId, () => {
      if (this.#find(vmId).state === 'running') this.#stop(vmId, 'stopped', 'destroyed')
    })
  }

  undefine(vmId: string): Promise<void> {
    return this.#take('undefine', vmId, () => {
      this.#find(vmId)
      this.domains.delete(vmId)
    })
  }

  attachDrive(vmId: string, volume: DriveVolume): Promise<void> {
    return this.#take('attachDrive', vmId, () => {
      const domain = this.#find(vmId)
      if (domain.state !== 'running') throw new MortarError('vm-state', 'the domain is not running')
      domain.drives.set(volume.driveId, volume)
    })
  }

  detachDrive(vmId: string, volume: DriveVolume): Promise<void> {
    return this.#take('detachDrive', vmId, () => {
      const domain = this.#find(vmId)
      if (!domain.drives.has(volume.driveId)) return
      if (!this.guestReleasesDrives) throw new MortarError('timeout', 'the guest holds on to the drive')
      domain.drives.delete(volume.driveId)
      this.#emit({ vmId, kind: 'drive-detached', detail: volume.driveId })
    })
  }

  list(): Promise<readonly DomainStatus[]> {
    return this.#take('list', undefined, () => [...this.domains].map(([vmId, { state }]) => ({ vmId, state })))
  }

  ensureNetwork(network: NetworkDefinition): Promise<void> {
    return this.#take('ensureNetwork', undefined, () => {
      this.networks.set(network.name, network)
    })
  }

  removeNetwork(name: string): Promise<void> {
    return this.#take('removeNetwork', undefined, () => {
      this.networks.delete(name)
    })
  }

  async qemuGroup(): Promise<number> {
    return 64_055
  }

  onEvent(listener: (event: DomainEvent) => void): void {
    this.#listeners.push(listener)
  }

  close(): void {
    this.#listeners.length = 0
  }

  async #take<T>(step: Step, vmId: string | undefined, action: () => T): Promise<T> {
    this.steps.push(vmId === undefined ? step : `${step} ${vmId}`)
    // a call to the real one takes at least a turn of the event loop
    await new Promise(setImmediate)
    if (this.#down) throw new MortarError('libvirt-down', 'the connection was closed')
    const failure = this.#failures.get(step)?.shift()
    if (failure) throw failure
    return action()
  }

  #find(vmId: string): FakeDomain {
    const domain = this.domains.get(vmId)
    if (!domain) throw new MortarError('not-found', `no domain ${vmId}`)
    return domain
  }

  #stop(vmId: string, kind: 'stopped' | 'crashed', detail: string): void {
    const domain = this.domains.get(vmId)
    if (domain?.state !== 'running') return
    domain.state = 'stopped'
    // what was plugged in while it ran is gone with the run
    domain.drives.clear()
    this.#emit({ vmId, kind, detail })
  }

  #emit(event: DomainEvent): void {
    setImmediate(() => {
      for (const listener of [...this.#listeners]) listener(event)
    })
  }
}
