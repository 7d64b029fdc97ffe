/** What the broker needs of a hypervisor. Every step may be repeated safely; a step on what is gone fails with not-found. */

export interface VmDefinition {
  /** UUID; also the hypervisor's own id of the VM */
  readonly vmId: string
  readonly name: string
  readonly memoryMiB: number
  readonly vcpus: number
  readonly overlayPath: string
  readonly consoleLogPath: string
  /** given to the guest as systemd credentials by fw_cfg; read when the VM starts, and may be removed after that */
  readonly bootFiles: readonly { readonly name: string; readonly path: string }[]
}

export interface DriveVolume {
  readonly driveId: string
  /** raw file */
  readonly path: string
  /** at most 20 characters; how the guest finds the device */
  readonly serial: string
}

export type DomainState = 'running' | 'stopped' | 'paused' | 'crashed'
export interface DomainStatus {
  readonly vmId: string
  readonly state: DomainState
}

export interface DomainEvent {
  readonly vmId: string
  readonly kind: 'started' | 'stopped' | 'crashed' | 'rebooted' | 'drive-detached'
  readonly detail: string
}

export interface HypervisorDescription {
  readonly hypervisor: string
  readonly acceleration: 'kvm' | 'tcg'
  /** why that acceleration, for people */
  readonly reason: string
}

export interface HypervisorDriver {
  describe(): Promise<HypervisorDescription>
  define(vm: VmDefinition): Promise<void>
  start(vmId: string): Promise<void>
  /** Asks the guest to power off; returns at once. */
  shutdown(vmId: string): Promise<void>
  /** Powers off and returns when it is. */
  destroy(vmId: string): Promise<void>
  undefine(vmId: string): Promise<void>
  attachDrive(vmId: string, volume: DriveVolume): Promise<void>
  /** Returns once the guest has let go of the device. Fails with timeout. */
  detachDrive(vmId: string, volume: DriveVolume): Promise<void>
  /** Domains that are ours; foreign ones are neither shown nor touched. */
  list(): Promise<readonly DomainStatus[]>
  onEvent(listener: (event: DomainEvent) => void): void
  close(): void
}
