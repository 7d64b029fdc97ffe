/** A VM that reboots: known by the key that the boot before left, and a question when that key is lost. SPEC §2.8 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Vm } from '../../protocol/control/api.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'

const STATE = '/var/lib/mortar-agent/boot'

describeGuest('boots', () => {
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    await machine.addDrive(owner(), 'lab', 'data')
  })
  afterAll(() => machine?.dispose())

  const owner = () => machine.people.owner
  const shown = async () => (await machine.must<{ vm: Vm }>(owner(), ['vm', 'show', 'lab'])).vm
  const asRoot = (...argv: string[]) => machine.inVm(owner(), 'lab', argv, { user: 'root' })
  const reboot = async (enrolled: (vm: Vm) => boolean) => {
    await machine.mortar(owner(), ['exec', 'lab', '--user', 'root', '--', 'systemctl', 'reboot'])
    for (let tries = 0; tries < 300; tries++) {
      const vm = await shown()
      if (enrolled(vm)) return vm
      await delay(1_000)
    }
    throw new Error(JSON.stringify(await shown()))
  }
  const failed = async (...args: string[]) => {
    const { code, stderr } = await machine.mortar(owner(), ['--json', ...args])
    return {
      exit: code,
      ...(JSON.parse(stderr.trim().split('\n').at(-1) ?? '{}') as { error: { code: string } }).error,
    }
  }

  test('the key of the next boot lies where root alone reads it', async () => {
    expect(await asRoot('stat', '-c', '%a %U %s', STATE)).toMatch(/^600 root \d+\n$/)
    const { code } = await machine.mortar(owner(), ['exec', 'lab', '--', 'cat', STATE])
    expect(code).not.toBe(0)
  })

  test('after a reboot a drive is unlocked without a question and without the launch secret', async () => {
    const before = await shown()
    const after = await reboot(vm => vm.agent?.generation === 2 && vm.agent.connected)
    expect(after.certificate).toBe(before.certificate)
    expect(after.boots).toHaveLength(2)
    const unlocked = await machine.must(owner(), ['drive', 'unlock', 'data'])
    expect(unlocked).toMatchObject({ mountPoint: '/drives/data' })
    const certified = await shown()
    expect(certified.certificate).not.toBe(before.certificate)
    expect(certified.events.filter(({ cause }) => cause.startsWith('ALARM'))).toEqual([])
    // the key that proved this boot is gone from the disk
    expect(certified.boots).toHaveLength(1)
  })

  test('after a reboot without that key the VM waits for its owner, and no key of a drive goes to it', async () => {
    await asRoot('rm', STATE)
    const waits = await reboot(vm => vm.waiting.some(({ connected }) => connected))
    expect(waits.state).toBe('enrolled')
    // the launch key, which it falls back to, has proven the first boot: which of the two it is called is the broker's to see
    const unproven = expect.stringMatching(/^boot-(unproven|contested)$/)
    expect(await failed('drive', 'unlock', 'data')).toMatchObject({ code: unproven })
    expect(await failed('exec', 'lab', '--', 'true')).toMatchObject({ code: unproven })
  })
})
