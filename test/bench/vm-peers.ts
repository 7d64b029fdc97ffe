/**
 * The peers inside a VM: sshd and qemu-ga at virtio ports, which are plugged into this one running VM with the files that they need.
 * The brick has neither port nor qemu-ga, and is as it is shipped.
 */
import { execFileSync } from 'node:child_process'
import { chmodSync, copyFileSync, mkdirSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { domainName } from '../../broker/hypervisor/libvirt/domain-xml.ts'
import type { Machine } from '../support/machine.ts'
import { QEMU_GA } from './guest-agent.ts'
import { CIPHER } from './ssh-client.ts'

/** in the VM */
const HERE = '/opt/bench'
const PORTS = ['control', 'cold', 'ga'] as const
export type VmPort = (typeof PORTS)[number]
/** a login shell that reads nothing at its start, as little as ssh can have */
export const VM_USER = 'bench'

const SSHD_CONFIG = `HostKey ${HERE}/host
AuthorizedKeysFile ${HERE}/user.pub
UsePAM no
StrictModes no
PasswordAuthentication no
LogLevel QUIET
Ciphers ${CIPHER}
`

/** sshd for one connection, and again for the next; it is started before anybody knocks. */
const DOOR = `#!/bin/sh
while :; do /usr/sbin/sshd -i -f ${HERE}/sshd_config <>/dev/virtio-ports/bench.$1 >&0 2>/dev/null || sleep 0.1; done
`

const SETUP = `set -e
mkdir -p ${HERE} /run/sshd
tar -x -C ${HERE}
chown -R root:root ${HERE}
chmod 600 ${HERE}/host
modprobe virtio_console
for try in 1 2 3 4 5 6 7 8 9 10; do [ -e /dev/virtio-ports/bench.ga ] && break; sleep 1; done
useradd --system --create-home --home-dir /var/tmp/bench --shell /bin/sh --password '*' ${VM_USER}
for name in control cold; do systemd-run --quiet --collect /bin/sh ${HERE}/door.sh $name; done
`
const START_GA = `systemd-run --quiet --collect --setenv=LD_LIBRARY_PATH=${HERE} ${HERE}/qemu-ga -m virtio-serial -p /dev/virtio-ports/bench.ga -t ${HERE}`

/** A PCIe port of the domain that nothing is plugged into. */
function freePciPort(domain: string): string {
  const xml = execFileSync('virsh', ['dumpxml', domain], { encoding: 'utf8' })
  const ports = [...xml.matchAll(/index='(\d+)' model='pcie-root-port'/g)].map(([, index]) => Number(index))
  const used = new Set([...xml.matchAll(/<address type='pci' domain='\w+' bus='(\w+)'/g)].map(([, bus]) => Number(bus)))
  const free = ports.find(port => !used.has(port))
  if (free === undefined) throw new Error('the VM has no free PCIe port for the ports of the peers')
  return `pci.${free}`
}

/** Plugs ports in, by QEMU's monitor, since libvirt plugs no controller of them; returns the paths of their sockets here. */
function plugPorts(machine: Machine, vmId: string): Record<VmPort, string> {
  const folder = join(machine.folder, 'ports')
  mkdirSync(folder)
  chmodSync(folder, 0o777)
  const pathOf = (name: VmPort) => join(folder, name)
  const domain = domainName(vmId)
  const monitor = (command: string) => {
    const said = execFileSync('virsh', ['-q', 'qemu-monitor-command', domain, '--hmp', command], { encoding: 'utf8' })
    if (/error/i.test(said)) throw new Error(`${command}: ${said}`)
  }
  monitor(`device_add virtio-serial-pci,id=bench,bus=${freePciPort(domain)}`)
  for (const name of PORTS) {
    monitor(`chardev-add socket,id=bench-${name},path=${pathOf(name)},server=on,wait=off`)
    monitor(`device_add virtserialport,bus=bench.0,chardev=bench-${name},name=bench.${name},id=bench-port-${name}`)
  }
  return { control: pathOf('control'), cold: pathOf('cold'), ga: pathOf('ga') }
}

/** The files that peers need in the VM. `withAgent`: qemu-ga and its libraries too. */
function packFiles(folder: string, withAgent: boolean): Buffer {
  mkdirSync(folder)
  for (const name of ['host', 'user']) {
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)])
  }
  writeFileSync(join(folder, 'sshd_config'), SSHD_CONFIG)
  writeFileSync(join(folder, 'door.sh'), DOOR)
  if (withAgent) {
    copyFileSync(QEMU_GA, join(folder, 'qemu-ga'))
    const libraries = execFileSync('ldd', [QEMU_GA], { encoding: 'utf8' }).matchAll(/=> (\/\S+\/([^/\s]+)) /g)
    for (const [, path = '', name = ''] of libraries) {
      // the guest has its own C library, of the same Debian
      if (!/^lib[cm]\.so/.test(name)) copyFileSync(path, join(folder, name))
    }
  }
  const packed = ['host', 'host.pub', 'user.pub', 'sshd_config', 'door.sh']
  const rest = withAgent ? ['--exclude=user', '.'] : packed
  return execFileSync('tar', ['-c', '-C', folder, ...rest], { maxBuffer: 64 * 2 ** 20 })
}

/** Installs and starts the peers; returns their sockets here, and where the key `user` is. */
export async function startPeers(
  machine: Machine,
  { id, name }: { readonly id: string; readonly name: string },
  withAgent: boolean,
): Promise<{ ports: Record<VmPort, string>; folder: string }> {
  const folder = join(machine.folder, 'peers')
  const files = packFiles(folder, withAgent)
  const ports = plugPorts(machine, id)
  const { owner } = machine.people
  const asRoot = { user: 'root', timeoutMs: 120_000 }
  await machine.inVm(owner, name, ['/bin/sh', '-c', SETUP], { ...asRoot, input: files })
  if (withAgent) await machine.inVm(owner, name, ['/bin/sh', '-c', START_GA], asRoot)
  return { ports, folder }
}
