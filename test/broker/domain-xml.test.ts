/** The XML for libvirt: nothing that a person chose can break out of its place, and targets are found again. */
import { expect, test } from 'vitest'
import {
  domainName,
  domainXml,
  driveAlias,
  driveTargets,
  driveXml,
  freeTarget,
} from '../../broker/hypervisor/libvirt/domain-xml.ts'

const vmId = '1f2e3d4c-0000-4000-8000-000000000001'
const vm = {
  vmId,
  name: 'plain',
  memoryMiB: 512,
  vcpus: 2,
  overlayPath: '/data/vm/overlay.qcow2',
  brickPath: '/data/bricks/brick.qcow2',
  consoleLogPath: '/data/vm/console.log',
  bootFiles: [{ name: 'mortar.secret', path: '/data/vm/secret' }],
  network: { kind: 'isolated', network: 'mortar-1', address: '10.128.0.2', macAddress: '02:6d:0a:80:00:02' },
} as const
const tcg = { acceleration: 'tcg', locksMemory: false } as const
const kvm = { acceleration: 'kvm', locksMemory: true } as const
const hostile = `x'/><disk type="block"/>&amp;<!--`

/** Element and attribute names in order; texts and values left out. */
const skeleton = (xml: string) => (xml.match(/<\/?[\w:]+|[\w:]+(?==')/g) ?? []).join(' ')

test('a hostile value changes no element and no attribute', () => {
  const whole = { ...vm, name: hostile, overlayPath: hostile, brickPath: hostile, consoleLogPath: hostile }
  const network = { kind: 'isolated', network: hostile, address: hostile, macAddress: hostile } as const
  const xml = domainXml({ ...whole, network, bootFiles: [{ name: hostile, path: hostile }] }, tcg)
  expect(skeleton(xml)).toBe(skeleton(domainXml(vm, tcg)))
  const drive = driveXml({ driveId: hostile, path: hostile, serial: hostile }, 'sda')
  expect(skeleton(drive)).toBe(skeleton(driveXml({ driveId: 'd', path: '/d', serial: 's' }, 'sda')))
})

test('what is secret stays in its file', () => {
  const xml = domainXml(vm, kvm)
  expect(xml).toContain("<entry name='opt/io.systemd.credentials/mortar.secret' file='/data/vm/secret'/>")
})

test('a port is isolated and held to its addresses, and QEMU has a user of its own where it connects itself', () => {
  const isolated = domainXml(vm, tcg)
  expect(isolated).toContain("<mac address='02:6d:0a:80:00:02'/>")
  expect(isolated).toContain("<port isolated='yes'/>")
  expect(isolated).toContain("<filterref filter='mortar-1'><parameter name='IP' value='10.128.0.2'/></filterref>")
  expect(isolated).not.toContain('seclabel type')
  const user = domainXml({ ...vm, network: { kind: 'user', uid: 1_879_048_194, gid: 107 } }, tcg)
  expect(user).toContain("<interface type='user'>")
  expect(user).toContain('<label>+1879048194:+107</label>')
})

test('the CPU follows the acceleration', () => {
  expect(domainXml(vm, kvm)).toContain("<domain type='kvm'>")
  expect(domainXml(vm, kvm)).toContain("mode='host-passthrough'")
  expect(domainXml(vm, tcg)).toContain("<domain type='qemu'>")
  expect(domainXml(vm, tcg)).toContain("mode='maximum'")
})

test('memory is never merged or dumped, and locked where it can be', () => {
  for (const options of [tcg, kvm]) {
    const xml = domainXml(vm, options)
    expect(xml).toContain("<memory unit='MiB' dumpCore='off'>512</memory>")
    expect(xml).toContain('<nosharepages/>')
    expect(xml.includes('<locked/>')).toBe(options.locksMemory)
  }
})

test('names and aliases lead back to ids', () => {
  expect(domainName(vmId)).toBe(`mortar-${vmId}`)
  expect(driveAlias.driveId(driveAlias.of('7'))).toBe('7')
  expect(driveAlias.driveId('virtio-disk0')).toBeUndefined()
})

test('targets in use are seen, and the one of a serial is found', () => {
  const xml = `<domain>${driveXml({ driveId: '1', path: '/a', serial: 'aaa' }, 'sda')}
    ${driveXml({ driveId: '2', path: '/b', serial: 'bbb' }, 'sdc')}
    <disk type='file'><target dev='vda' bus='virtio'/></disk></domain>`
  const { used, ofSerial } = driveTargets(xml)
  expect([...used].sort()).toEqual(['sda', 'sdc', 'vda'])
  expect(ofSerial('bbb')).toBe('sdc')
  expect(ofSerial('bb')).toBeUndefined()
  expect(freeTarget(used)).toBe('sdb')
  expect(freeTarget(new Set([...'abcdefghijklmnopqrstuvwxyz'].map(letter => `sd${letter}`)))).toBeUndefined()
})
