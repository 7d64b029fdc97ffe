/** What only PID 1, device-mapper and a real disk show of the agent: programs that cannot start, work that was left half done. */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'

describeGuest('the agent at its edges', () => {
  let machine: Machine
  const owner = () => machine.people.owner
  const root = (script: string) => machine.inVm(owner(), 'lab', ['sh', '-c', script], { user: 'root' })
  const failed = async (...args: string[]) =>
    (JSON.parse((await machine.mortar(owner(), ['--json', ...args])).stderr) as { error: { code: string } }).error.code

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    await machine.addDrive(owner(), 'lab', 'data')
  })
  afterAll(() => machine?.dispose())

  test('a program that cannot be executed is told from one that ends with the same code', async () => {
    await root('echo true > /tmp/bad; chmod 644 /tmp/bad')
    expect(await failed('exec', 'lab', '--', '/tmp/bad')).toBe('exec-failed')
    expect(await failed('exec', 'lab', '--cwd', '/root', '--', '/usr/bin/true')).toBe('directory-unknown')
    expect((await machine.mortar(owner(), ['exec', 'lab', '--', 'sh', '-c', 'exit 203'])).code).toBe(203)
  })

  test('a variable cannot hide how a program ended', async () => {
    expect((await machine.mortar(owner(), ['exec', 'lab', '--env', 'EXIT_STATUS=0', '--', 'false'])).code).toBe(1)
  })

  test('a mapping that was left open is taken up by unlock and by format', async () => {
    await root('umount /drives/data')
    await machine.must(owner(), ['drive', 'unlock', 'data'])
    await root('umount /drives/data')
    await machine.must(owner(), ['drive', 'unlock', 'data', '--format', '--erase'])
    expect(await root('findmnt -no OPTIONS /drives/data')).toMatch(/nosuid,nodev/)
  })

  test('an unlock that cannot mount leaves no key in the kernel', async () => {
    await machine.must(owner(), ['drive', 'lock', 'data'])
    await root('mount -o remount,rw /drives; mkdir -p /drives/data; mount -t tmpfs x /drives/data')
    expect(await failed('drive', 'unlock', 'data')).toBe('drive-busy')
    expect(await root('ls /dev/mapper')).toBe('control\n')
    await root('umount /drives/data; rmdir /drives/data; mount -o remount,ro /drives')
    await machine.must(owner(), ['drive', 'unlock', 'data'])
  })
})
