/** What the broker needs of a hypervisor. Every step may be repeated safely; a step on what is gone fails with not-found. */

export interface VmDefinition {
  /** UUID; also the hypervisor's own id of the VM */
  readonly vmId: string
  readonly name: string
  readonly memoryMiB: number
  readonly vcpus: number
  readonly overlayPath: string
  /** the overlay's backing file, which every user may read; it is named, so that the overlay's header need not be believed */
  readonly brickPath: string
  readonly consoleLogPath: string
  /** given to the guest as systemd credentials by fw_cfg; read when the VM starts, and may be removed after that */
  readonly bootFiles: readonly { readonly name: string; readonly path: string }[]
  readonly network: VmNetwork
}

/** What a VM is plugged into. */
export type VmNetwork =
  | {
      /** a port of its own on a network that ensureNetwork made, isolated from other ports and held to these addresses */
      readonly kind: 'isolated'
      readonly network: string
      readonly address: string
      readonly macAddress: string
    }
  | {
      /** QEMU's user networking, in a process of this user and group */
      readonly kind: 'user'
      readonly uid: number
      readonly gid: number
    }

/** A network without a way out, over a bridge of the same name that the caller makes. */
export interface NetworkDefinition {
  readonly name: string
  /** of the bridge: IPv4 and MAC. A VM reaches `agentPort` there, and nothing else */
  readonly address: string
  readonly macAddress: string
  readonly agentPort: number
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

/** One reboot may be told twice: firmware likes to reset once more by itself. */
export interface DomainEvent {
  readonly vmId: string
  readonly kind: 'started' | 'stopped' | 'crashed' | 'rebooted' | 'drive-detached'
  /** drive-detached: the drive's id; stopped and crashed: how, in a word or two */
  readonly detail: string
}

export interface HypervisorDescription {
  readonly hypervisor: string
  readonly acceleration: 'kvm' | 'tcg'
  /** why that acceleration, for people */
  readonly reason: string
  /** whether the memory of VMs is locked, so that the host does not swap it */
  readonly locksMemory: boolean
}

/**
 * Beside what is said below a step fails with libvirt-down while the hypervisor is away, qemu-missing, no-space, or
 * libvirt-failed for whatever else it refused.
 */
export interface HypervisorDriver {
  describe(): Promise<HypervisorDescription>
  /** Makes the VM known, or changes what is known of it from its next start on. */
  define(vm: VmDefinition): Promise<void>
  start(vmId: string): Promise<void>
  /** Asks the guest to power off; returns at once. */
  shutdown(vmId: string): Promise<void>
  /** Powers off and returns when it is. */
  destroy(vmId: string): Promise<void>
  /** Forgets a stopped VM. Its files are the caller's. */
  undefine(vmId: string): Promise<void>
  /** Plugs a drive into a running VM until it stops. Fails with vm-state. */
  attachDrive(vmId: string, volume: DriveVolume): Promise<void>
  /** Returns once the guest has let go of the device. Fails with timeout. */
  detachDrive(vmId: string, volume: DriveVolume): Promise<void>
  /** Makes the network known, or makes sure that it is as defined. Fails with network-unusable when it is another. */
  ensureNetwork(network: NetworkDefinition): Promise<void>
  /** Forgets a network that no VM is on. Does nothing when it is not there. */
  removeNetwork(name: string): Promise<void>
  /** The group that QEMU runs as, by number: who is in it can enter the hypervisor's own folders. */
  qemuGroup(): Promise<number>
  /** Domains that are ours; foreign ones are neither shown nor touched. */
  list(): Promise<readonly DomainStatus[]>
  /** Events come once the first step was taken. What happened while the hypervisor was away is told when it is back. */
  onEvent(listener: (event: DomainEvent) => void): void
  close(): void
}
