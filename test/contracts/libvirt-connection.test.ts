/** The libvirt driver when its connection is bad: no daemon, a daemon that talks nonsense, one that goes and comes back. */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { chmodSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { connect, createServer, type Server, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { hostAcceleration } from '../../broker/hypervisor/acceleration.ts'
import type { DomainEvent } from '../../broker/hypervisor/driver.ts'
import { LibvirtDriver } from '../../broker/hypervisor/libvirt/driver.ts'
import { LibvirtRefusal, readRefusal } from '../../broker/hypervisor/libvirt/refusals.ts'
import { ensureLibvirt } from '../support/libvirt-daemons.ts'

let directory: string
beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'mortar-libvirt-'))
  chmodSync(directory, 0o711)
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

const failure = (code: string) => expect.objectContaining({ code })

async function listen(path: string, onSocket: (socket: Socket) => void): Promise<Server> {
  const server = createServer(onSocket)
  await new Promise<void>(resolve => server.listen(path, resolve))
  return server
}

test('without a daemon every step says that libvirt is down, and where it was sought', async () => {
  const path = join(directory, 'nobody')
  const driver = new LibvirtDriver(path)
  await expect(driver.list()).rejects.toEqual(failure('libvirt-down'))
  await expect(driver.start(randomUUID())).rejects.toThrow(path)
  driver.close()
})

test.each([
  ['a length that is too small', '00000004'],
  ['a length that is absurd', 'ffffffff'],
  ['another protocol', Buffer.from('HTTP/1.1 400 Bad Request\r\n\r\n').toString('hex')],
  ['the end', ''],
])('a peer that answers with %s is left', async (_, hex) => {
  const path = join(directory, 'nonsense')
  const server = await listen(path, socket => {
    socket.on('error', () => undefined)
    socket.once('data', () => (hex === '' ? socket.end() : socket.write(Buffer.from(hex, 'hex'))))
  })
  const driver = new LibvirtDriver(path)
  await expect(driver.list()).rejects.toEqual(failure('libvirt-down'))
  driver.close()
  await new Promise(resolve => server.close(resolve))
})

// the texts are libvirt 9.0's
test.each([
  ['not-found', 42, "Domain not found: no domain with matching uuid '…'"],
  ['no-space', 38, "Unable to write to '/var/lib/x': No space left on device"],
  ['qemu-missing', 8, 'Cannot check QEMU binary /usr/bin/qemu-system-x86_64: No such file or directory'],
  ['qemu-missing', 67, "unsupported configuration: No emulator found for arch 'x86_64'"],
  ['libvirt-failed', 67, "unsupported configuration: Emulator '/usr/bin/qemu' does not support virt type 'kvm'"],
  ['vm-state', 55, 'Requested operation is not valid: domain is not running'],
  ['storage-denied', 38, "Cannot access storage file '/x/overlay.qcow2' (as uid:64055, gid:107): Permission denied"],
  ['libvirt-failed', 1, 'internal error: process exited while connecting to monitor'],
])('%s is what refusal %i means', (code, number, message) => {
  const error = readRefusal(new LibvirtRefusal(number, message))
  expect(error.code).toBe(code)
  expect(error.detail).toContain(message)
})

test('what happens while libvirt is away is told when it is back', async ({ skip, onTestFinished }) => {
  try {
    await ensureLibvirt()
  } catch (cause) {
    return skip(`no libvirt here: ${(cause as Error).message}`)
  }
  // a door before the daemon, which can be shut without disturbing the daemon
  const path = join(directory, 'door')
  const sockets = new Set<Socket>()
  let open = true
  const server = await listen(path, socket => {
    if (!open) return socket.destroy()
    const behind = connect('/run/libvirt/libvirt-sock')
    for (const end of [socket, behind]) {
      sockets.add(end)
      end.on('error', () => undefined)
    }
    socket.pipe(behind).pipe(socket)
  })
  const shut = () => {
    open = false
    for (const socket of sockets) socket.destroy()
  }
  const vmId = randomUUID()
  const driver = new LibvirtDriver(path)
  onTestFinished(async () => {
    const direct = new LibvirtDriver()
    await direct.destroy(vmId).catch(() => undefined)
    await direct.undefine(vmId).catch(() => undefined)
    direct.close()
    driver.close()
    shut()
    server.close()
  })
  const events: DomainEvent[] = []
  driver.onEvent(event => events.push(event))
  const [brickPath, overlayPath] = [join(directory, 'brick.qcow2'), join(directory, 'disk.qcow2')]
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', brickPath, '16M'])
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', brickPath, '-F', 'qcow2', overlayPath])
  const paths = { overlayPath, brickPath, consoleLogPath: join(directory, 'console.log') }
  const network = { kind: 'user', uid: 1_879_048_200, gid: await driver.qemuGroup() } as const
  await driver.define({ vmId, name: 'away', memoryMiB: 64, vcpus: 1, ...paths, bootFiles: [], network })
  await driver.start(vmId)
  shut()
  await expect.poll(() => driver.list().catch(cause => cause.code)).toBe('libvirt-down')
  execFileSync('virsh', ['-q', '-c', 'qemu:///system', 'destroy', vmId])
  open = true
  await expect.poll(() => events.map(event => event.kind)).toEqual(['started', 'stopped'])
  expect((await driver.list()).find(status => status.vmId === vmId)?.state).toBe('stopped')
})

test('the memory of a VM is neither merged nor dumped', async ({ onTestFinished }) => {
  const driver = new LibvirtDriver(undefined, hostAcceleration(), false)
  const vmId = randomUUID()
  onTestFinished(async () => {
    await driver.destroy(vmId).catch(() => undefined)
    await driver.undefine(vmId).catch(() => undefined)
    driver.close()
  })
  const [brickPath, overlayPath] = [join(directory, 'locked-brick.qcow2'), join(directory, 'locked.qcow2')]
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', brickPath, '16M'])
  execFileSync('qemu-img', ['create', '-q', '-f', 'qcow2', '-b', brickPath, '-F', 'qcow2', overlayPath])
  const paths = { overlayPath, brickPath, consoleLogPath: join(directory, 'locked.log') }
  const network = { kind: 'user', uid: 1_879_048_201, gid: await driver.qemuGroup() } as const
  await driver.define({ vmId, name: 'locked', memoryMiB: 96, vcpus: 1, ...paths, bootFiles: [], network })
  await driver.start(vmId)
  const pid = readFileSync(`/run/libvirt/qemu/mortar-${vmId}.pid`, 'utf8').trim()
  const mappings = readFileSync(`/proc/${pid}/smaps`, 'utf8').split(/\n(?=[0-9a-f]+-[0-9a-f]+ )/)
  const ofGuest = mappings.filter(mapping => /^Size: +98304 kB$/m.test(mapping))
  expect(ofGuest).toHaveLength(1)
  const flags = /^VmFlags: (.*)$/m
    .exec(ofGuest[0] ?? '')?.[1]
    ?.trim()
    .split(' ')
  // not in dumps, not mergeable (proc(5))
  expect([flags?.includes('dd'), flags?.includes('mg')]).toEqual([true, false])
})
