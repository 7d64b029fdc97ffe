/** The XML that libvirt is told: domains and the drives plugged into them. Every value is escaped. */
import type { DriveVolume, VmDefinition, VmNetwork } from '../driver.ts'
import { escapeXml } from './xml.ts'

/** namespace of the mark by which we know our domains */
export const MARK = 'https://mortar.invalid/domain/1'

/** Name by which our domains are told from others'. */
export const domainName = (vmId: string) => `mortar-${vmId}`

/** Alias of a drive's device, as removal events name it. */
export const driveAlias = {
  of: (driveId: string) => `ua-drive-${driveId}`,
  driveId: (alias: string) => (alias.startsWith('ua-drive-') ? alias.slice('ua-drive-'.length) : undefined),
}

/** Without erms the guest's kernel fills and copies memory by eight bytes; software emulation takes as long for one. */
const EMULATED_CPU = "<cpu mode='maximum'><feature policy='disable' name='erms'/></cpu>"

export interface DomainOptions {
  readonly acceleration: 'kvm' | 'tcg'
  readonly locksMemory: boolean
}

export function domainXml(vm: VmDefinition, { acceleration, locksMemory }: DomainOptions): string {
  const bootFiles = vm.bootFiles.map(
    file => `<entry name='opt/io.systemd.credentials/${escapeXml(file.name)}' file='${escapeXml(file.path)}'/>`,
  )
  return `<domain type='${acceleration === 'kvm' ? 'kvm' : 'qemu'}'>
  <name>${domainName(vm.vmId)}</name>
  <uuid>${escapeXml(vm.vmId)}</uuid>
  <title>${escapeXml(vm.name)}</title>
  <metadata><m:vm xmlns:m='${MARK}'/></metadata>
  <memory unit='MiB' dumpCore='off'>${vm.memoryMiB}</memory>
  ${memoryBacking(locksMemory)}
  <vcpu>${vm.vcpus}</vcpu>
  <os><type arch='x86_64' machine='q35'>hvm</type><boot dev='hd'/></os>
  <sysinfo type='fwcfg'>${bootFiles.join('')}</sysinfo>
  <features><acpi/><apic/></features>
  ${acceleration === 'kvm' ? "<cpu mode='host-passthrough'/>" : EMULATED_CPU}
  <clock offset='utc'/>
  <on_poweroff>destroy</on_poweroff><on_reboot>restart</on_reboot><on_crash>destroy</on_crash>
  <devices>
    <disk type='file' device='disk'>
      <driver name='qemu' type='qcow2' discard='unmap'/>
      <source file='${escapeXml(vm.overlayPath)}'/>${backingStore(vm.brickPath)}
      <target dev='vda' bus='virtio'/>
    </disk>
    <controller type='scsi' index='0' model='virtio-scsi'/>
    <controller type='usb' model='none'/>
    ${interfaceXml(vm.network)}
    <serial type='file'><source path='${escapeXml(vm.consoleLogPath)}' append='on'/><target port='0'/></serial>
    <console type='file'><source path='${escapeXml(vm.consoleLogPath)}' append='on'/><target type='serial' port='0'/></console>
    <rng model='virtio'><backend model='random'>/dev/urandom</backend></rng>
    <memballoon model='none'/>
  </devices>
  ${processXml(vm.network)}
</domain>`
}

/** Keys of open drives are in it: it is merged with nothing, and where it can be locked it is never swapped. */
const memoryBacking = (locks: boolean) => `<memoryBacking><nosharepages/>${locks ? '<locked/>' : ''}</memoryBacking>`
/** The port's filter is libvirt's, of the network's name: it lets through what comes from these two addresses, and only where it may go. */
function interfaceXml(network: VmNetwork): string {
  if (network.kind === 'user') return "<interface type='user'><model type='virtio'/></interface>"
  const name = escapeXml(network.network)
  return `<interface type='network'>
      <mac address='${escapeXml(network.macAddress)}'/>
      <source network='${name}'/>
      <model type='virtio'/>
      <port isolated='yes'/>
      <filterref filter='${name}'><parameter name='IP' value='${escapeXml(network.address)}'/></filterref>
    </interface>`
}

/** Under user networking it is QEMU that connects, so each has a user of its own by which the host can hold it back. */
const processXml = (network: VmNetwork) =>
  network.kind === 'user'
    ? `<seclabel type='static' model='dac' relabel='yes'><label>+${network.uid}:+${network.gid}</label></seclabel>`
    : ''

/**
 * Named here, the brick is opened whatever an escaped guest wrote into its overlay's header; and libvirt leaves its owner
 * alone, so that no QEMU may write to what all VMs share.
 */
const backingStore = (brickPath: string) => `
      <backingStore type='file'>
        <format type='qcow2'/>
        <source file='${escapeXml(brickPath)}'><seclabel model='dac' relabel='no'/></source>
        <backingStore/>
      </backingStore>`

/** A data drive on the virtio-scsi bus, which takes no PCIe slot; the guest finds it by its serial. */
export function driveXml(volume: DriveVolume, target: string): string {
  return `<disk type='file' device='disk'>
  <driver name='qemu' type='raw' cache='none' discard='unmap'/>
  <source file='${escapeXml(volume.path)}'/>
  <target dev='${target}' bus='scsi'/>
  <serial>${escapeXml(volume.serial)}</serial>
  <alias name='${escapeXml(driveAlias.of(volume.driveId))}'/>
</disk>`
}

/** Target names in use in a domain's XML, and the one of a drive by its serial. */
export function driveTargets(xml: string): { used: Set<string>; ofSerial(serial: string): string | undefined } {
  const disks = xml.match(/<disk [\s\S]*?<\/disk>/g) ?? []
  const targetOf = (disk: string) => /<target dev='(\w+)'/.exec(disk)?.[1]
  return {
    used: new Set(disks.map(targetOf).filter(target => target !== undefined)),
    ofSerial: serial => disks.filter(disk => disk.includes(`<serial>${serial}</serial>`)).map(targetOf)[0],
  }
}

/** The first free name of sda, sdb … sdz. */
export function freeTarget(used: ReadonlySet<string>): string | undefined {
  return [...'abcdefghijklmnopqrstuvwxyz'].map(letter => `sd${letter}`).find(target => !used.has(target))
}
