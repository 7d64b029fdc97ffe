/** Brick, overlay, enrolment, owner's key, destruction: the life of real VMs. */
import { execFileSync } from 'node:child_process'
import { existsSync, readdirSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { placeOf } from '../../broker/network/plan.ts'
import { digestFile } from '../../images/steps.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { domainIds } from '../support/domains.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { openTap, type Tap } from '../support/tap.ts'

const MiB = 2 ** 20

describeGuest('lifecycle', () => {
  let tap: Tap
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start({ fronted: true })
    tap = await openTap(machine.front)
    tap.target = Number(new URL(machine.agents).port)
  })
  afterAll(async () => {
    await machine?.dispose()
    await tap?.close()
  })

  const owner = () => machine.people.owner
  const vmOf = async (name: string) => (await machine.must<{ vm: Vm }>(owner(), ['vm', 'show', name])).vm
  const overlayOf = (vm: Vm) => join(machine.dataDir, 'vms', vm.id, 'overlay.qcow2')
  const bytesOnDisk = (path: string) => statSync(path).blocks * 512
  const brickPath = () => join(machine.dataDir, 'bricks', readdirSync(join(machine.dataDir, 'bricks'))[0] ?? '')
  const ready = (name: string) => machine.must(owner(), ['vm', 'wait', name, '--for', 'ready'])

  test('overlay has the brick as backing file and starts under 1 MiB', async () => {
    const args = ['vm', 'create', 'one', '--brick', machine.brickName, '--memory', '768', '--wait', 'none']
    const { vm } = await machine.must<{ vm: Vm }>(owner(), args)
    expect(bytesOnDisk(overlayOf(vm))).toBeLessThan(MiB)
    const info = JSON.parse(
      execFileSync('qemu-img', ['info', '-U', '--output=json', overlayOf(vm)], { encoding: 'utf8' }),
    ) as Record<string, unknown>
    expect(info['backing-filename']).toBe(brickPath())
    expect(info['backing-filename-format']).toBe('qcow2')
    // it stays the broker's: a QEMU that was broken into may not write to what all VMs share
    expect(statSync(brickPath()).uid).toBe(process.getuid?.())
    expect(existsSync(join(machine.dataDir, 'vms', vm.id, 'mortar.secret'))).toBe(false)
  })

  test('enrolment carries IP and public key', async () => {
    await ready('one')
    const { agent, state, failure } = await vmOf('one')
    expect({ state, failure }).toEqual({ state: 'ready', failure: null })
    expect(agent?.generation).toBe(1)
    expect(agent?.agentDh).toMatch(/^[A-Za-z0-9_-]{43}$/)
    // the address that the launch gave, and the guest itself sees; and no other
    const { address } = placeOf(machine.plan, 2)
    expect(agent?.addresses).toEqual([address])
    expect(await machine.inVm(owner(), 'one', ['ip', '-o', 'addr'])).toContain(`${address}/20`)
  })

  test('after 64 MiB written in the guest the overlay grew by about that and the brick is unchanged', async () => {
    const vm = await vmOf('one')
    const { brickSha256 } = vm
    await machine.inVm(owner(), 'one', ['sync'], { user: 'root' })
    const before = bytesOnDisk(overlayOf(vm))
    const write = 'dd if=/dev/urandom of=/var/tmp/noise bs=1M count=64 status=none && sync'
    await machine.inVm(owner(), 'one', ['sh', '-c', write])
    const grown = bytesOnDisk(overlayOf(vm)) - before
    expect(grown).toBeGreaterThan(63 * MiB)
    expect(grown).toBeLessThan(80 * MiB)
    expect(await digestFile(brickPath())).toBe(brickSha256)
  })

  test('a reboot is a new generation with new keys, and the owner certifies it again', async () => {
    const before = await vmOf('one')
    // the connection ends with the guest: how the command ends does not matter
    await machine.mortar(owner(), ['exec', 'one', '--user', 'root', '--', 'systemctl', 'reboot'])
    let after = before
    for (let tries = 0; tries < 120 && after.agent?.generation !== 2; tries++) {
      await delay(1_000)
      after = await vmOf('one')
    }
    expect(after.agent?.generation).toBe(2)
    expect(after.agent?.agentDh).not.toBe(before.agent?.agentDh)
    expect(after.agent?.agentSign).not.toBe(before.agent?.agentSign)
    expect(await machine.inVm(owner(), 'one', ['echo', 'again'])).toBe('again\n')
    const certified = await vmOf('one')
    expect(certified.state).toBe('ready')
    expect(certified.certificate).not.toBe(before.certificate)
  })

  test("the agent holds the owner's key from the ticket and refuses a broker that answers another", async () => {
    tap.rewrite = chunk => {
      const text = chunk.toString('latin1')
      return Buffer.from(
        text.replace(/("owner":")[^"]{10}/, (_all, start) => `${start}AAAAAAAAAA`),
        'latin1',
      )
    }
    const args = ['vm', 'create', 'two', '--brick', machine.brickName, '--memory', '768', '--wait', 'none']
    const { vm } = await machine.must<{ vm: Vm }>(owner(), args)
    const log = async () => (await machine.must<{ console: string }>(owner(), ['vm', 'logs', 'two'])).console
    for (let tries = 0; tries < 120 && !(await log()).includes('owner-mismatch'); tries++) await delay(1_000)
    expect(await log()).toContain('owner-mismatch')
    const refused = await machine.mortar(owner(), ['exec', 'two', '--', 'true'])
    expect(refused.code).toBe(125)
    expect((await vmOf('two')).certificate).toBeNull()
    // an honest answer later is taken: nothing was lost
    tap.rewrite = undefined
    await ready('two')
    expect((await vmOf('two')).id).toBe(vm.id)
  })

  test('two VMs of one brick: same initial bytes, a file of one absent in the other and absent after relaunch', async () => {
    const initial = ['sh', '-c', 'head -c 64M /dev/vda1 | sha256sum; cat /usr/bin/* /etc/ssh/* /etc/passwd | sha256sum']
    const [one, two] = [
      await machine.inVm(owner(), 'one', initial, { user: 'root' }),
      await machine.inVm(owner(), 'two', initial, { user: 'root' }),
    ]
    expect(one).toMatch(/^[0-9a-f]{64} {2}-\n[0-9a-f]{64}/)
    expect(two).toBe(one)
    const see = ['sh', '-c', 'test -e ~/mark && echo there || echo absent']
    await machine.inVm(owner(), 'one', ['sh', '-c', 'touch ~/mark'])
    expect(await machine.inVm(owner(), 'one', see)).toBe('there\n')
    expect(await machine.inVm(owner(), 'two', see)).toBe('absent\n')
    await machine.must(owner(), ['vm', 'delete', 'one', '--yes'])
    await machine.launch(owner(), 'one')
    expect(await machine.inVm(owner(), 'one', see)).toBe('absent\n')
  })

  test('a drive that one VM has cannot be attached to another', async () => {
    await machine.must(owner(), ['drive', 'create', 'shared', '--size', '32M'])
    await machine.must(owner(), ['drive', 'attach', 'shared', 'one'])
    const { code, stderr } = await machine.mortar(owner(), ['--json', 'drive', 'attach', 'shared', 'two'])
    expect(code).toBe(6)
    expect(JSON.parse(stderr)).toMatchObject({ error: { code: 'drive-attached' } })
    await machine.must(owner(), ['drive', 'detach', 'shared'])
    await machine.must(owner(), ['drive', 'attach', 'shared', 'two'])
  })

  test('another user can neither see, use nor destroy a VM', async () => {
    const { other } = machine.people
    const { id } = await vmOf('one')
    expect(await machine.must(other, ['vm', 'list'])).toEqual({ vms: [] })
    for (const command of [
      ['vm', 'show', id],
      ['vm', 'logs', id],
      ['vm', 'stop', id, '--yes'],
      ['vm', 'delete', id, '--yes'],
      ['vm', 'delete', 'one', '--yes'],
      ['shell', id],
    ]) {
      const { code } = await machine.mortar(other, command)
      expect(`${command.join(' ')}: ${code}`).toBe(`${command.join(' ')}: 3`)
    }
    expect((await machine.mortar(other, ['exec', id, '--', 'id'])).code).toBe(125)
    expect(await machine.inVm(owner(), 'one', ['echo', 'still here'])).toBe('still here\n')
  })

  test('destroy by the owner removes domain, overlay and boot data', async () => {
    const { id } = await vmOf('one')
    expect(await domainIds()).toContain(id)
    await machine.must(owner(), ['vm', 'delete', 'one', '--yes'])
    expect(await domainIds()).not.toContain(id)
    expect(existsSync(join(machine.dataDir, 'vms', id))).toBe(false)
    expect((await machine.mortar(owner(), ['vm', 'show', id])).code).toBe(3)
  })

  test("destroy by an administrator removes domain, overlay and boot data, and leaves the owner's drives", async () => {
    const { id } = await vmOf('two')
    await machine.must(machine.people.administrator, ['vm', 'delete', id, '--yes'])
    expect(await domainIds()).not.toContain(id)
    expect(existsSync(join(machine.dataDir, 'vms', id))).toBe(false)
    const { drives } = await machine.must<{ drives: { name: string; attachedTo: string | null }[] }>(owner(), [
      'drive',
      'list',
    ])
    expect(drives).toMatchObject([{ name: 'shared', attachedTo: null }])
  })
})
