/** Boots at the broker: which one is the VM, by the one-use keys that prove them, whatever reboots were seen. SPEC §2.8, §3.2 */
import { describe, expect, test } from 'vitest'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import {
  alarms,
  arrive,
  certified,
  certify,
  currentOf,
  dial,
  keyOf,
  launchOne,
  refusedWith,
  rig,
  sessionAt,
} from './boot-rig.ts'
import { type Boot, enrolled, newBoot, signedBoot, soon } from './sockets.ts'

describe('the next boot', () => {
  test('is taken by the key that the boot before left, once that one is away, and its certificate stays until the next', async () => {
    const { launch, id, first, agent } = await certified()
    const { certificate } = await rig.vm(id)
    agent.socket.close()
    await expect.poll(async () => (await rig.vm(id)).agent?.connected).toBe(false)
    const second = newBoot(2)
    await arrive(launch, second, first)
    const vm = await rig.vm(id)
    expect(vm).toMatchObject({ state: 'enrolled', certificate, agent: { generation: 2, agentSign: keyOf(second) } })
    expect(vm.boots).toHaveLength(2)
    expect(await alarms(id)).toEqual([])
    expect((await certify(launch, second, {}, first)).status).toBe(200)
    expect((await rig.vm(id)).boots).toHaveLength(1)
  })

  test('needs no reboot that was seen, nor a broker that ran meanwhile', async () => {
    const { launch, id, first } = await certified()
    await rig.restart()
    const second = newBoot(2)
    await arrive(launch, second, first)
    expect(await currentOf(id)).toBe(keyOf(second))
    rig.driver.reboot(id)
    const third = newBoot(3)
    await arrive(launch, third, second)
    expect(await currentOf(id)).toBe(keyOf(third))
    expect((await rig.vm(id)).boots).toHaveLength(3)
  })

  test('waits while the boot before is connected, and follows once that one is silent when asked (protestMs)', async () => {
    const { launch, id, first, agent } = await certified()
    const second = newBoot(2)
    const next = await arrive(launch, second, first)
    expect(await agent.next('succeeded')).toEqual({
      type: 'succeeded',
      boot: encodeBase64url(signedBoot(launch, second, { by: first })),
    })
    expect(await currentOf(id)).toBe(keyOf(first))
    rig.clock.advance(LIMITS.protestMs)
    await expect.poll(() => currentOf(id)).toBe(keyOf(second))
    await soon(agent.closed, 'the close of the boot before')
    expect(await rig.vm(id)).toMatchObject({ state: 'enrolled', waiting: [], agent: { connected: true } })
    expect(await alarms(id)).toEqual([])
    next.socket.close()
  })

  test('of a chain longer than a broker keeps (bootChain) is taken, though its owner is asked', async () => {
    const { launch, id, first } = await certified()
    let before = first
    for (let generation = 2; generation <= LIMITS.bootChain + 2; generation++) {
      rig.clock.advance(5_000)
      rig.driver.reboot(id)
      const next = newBoot(generation)
      await arrive(launch, next, before)
      before = next
    }
    const vm = await rig.vm(id)
    expect([vm.boots.length, vm.agent?.agentSign]).toEqual([LIMITS.bootChain, keyOf(before)])
  })
})

describe('boots that no broker saw', () => {
  test('lead to the one that enrols, as many as bootLine, and not past one that is missing', async () => {
    const { launch, id, first } = await certified()
    const unseen = Array.from({ length: LIMITS.bootLine }, (_, index) => newBoot(index + 2))
    const line = unseen.map((boot, index) => signedBoot(launch, boot, { by: unseen[index - 1] ?? first }))
    const last = newBoot(20)
    rig.driver.reboot(id)
    const broken = dial()
    await broken.enrol(launch, last, { by: unseen.at(-1) as Boot, line: line.slice(1) })
    expect(await broken.next('refused')).toMatchObject({ code: 'enrolment-invalid' })
    await enrolled(rig.broker.agents, launch, last, { by: unseen.at(-1) as Boot, line })
    const vm = await rig.vm(id)
    expect([vm.agent?.agentSign, vm.boots.length, vm.waiting]).toEqual([keyOf(last), LIMITS.bootLine + 2, []])
  })

  test('contest where the first of them does', async () => {
    const { launch, id, first } = await certified()
    rig.driver.reboot(id)
    await arrive(launch, newBoot(2), first)
    const [unseen, real] = [newBoot(2), newBoot(3)]
    const control = dial()
    await control.enrol(launch, real, { by: unseen, line: [signedBoot(launch, unseen, { by: first })] })
    expect(await control.next('enrolled')).toMatchObject({ standing: 'waiting' })
    expect((await sessionAt(id)).code).toBe('boot-contested')
    expect((await certify(launch, real, { confirmed: true }, unseen)).status).toBe(200)
    expect((await sessionAt(id)).status).toBe(200)
  })
})

describe('a boot that proves nothing', () => {
  /** A VM whose launch secret is spent and whose second boot is certified. */
  async function second() {
    const { launch, id, first } = await certified()
    rig.driver.reboot(id)
    const boot = newBoot(2)
    const agent = await arrive(launch, boot, first)
    expect((await certify(launch, boot, {}, first)).status).toBe(200)
    return { launch, id, boot, agent }
  }

  test('waits at enrolled until the owner confirms it', async () => {
    const { launch, id } = await second()
    rig.driver.reboot(id)
    const lost = newBoot(1)
    const control = await arrive(launch, lost)
    expect((await rig.vm(id)).state).toBe('enrolled')
    expect((await sessionAt(id)).code).toBe('boot-unproven')
    expect((await certify(launch, lost)).code).toBe('boot-contested')
    control.send({ type: 'ready' })
    expect((await certify(launch, lost, { confirmed: true })).status).toBe(200)
    await expect.poll(async () => (await rig.vm(id)).state).toBe('ready')
    expect(await currentOf(id)).toBe(keyOf(lost))
    expect(await alarms(id)).toEqual([])
  })

  test('disturbs nobody while the VM is there, and is dropped when the proven boot comes', async () => {
    const { launch, id, boot, agent } = await second()
    const thief = await arrive(launch, newBoot(3))
    expect((await sessionAt(id)).status).toBe(200)
    rig.driver.reboot(id)
    await soon(thief.closed, 'the close')
    const again = await arrive(launch, newBoot(3))
    const third = newBoot(3)
    await arrive(launch, third, boot)
    await soon(again.closed, 'the close of the one that proves nothing')
    expect(await rig.vm(id)).toMatchObject({ waiting: [], agent: { agentSign: keyOf(third) } })
    agent.socket.close()
  })

  test('nor knows a secret changes nothing, and is no event', async () => {
    const { launch, id } = await second()
    const before = await rig.vm(id)
    for (let times = 0; times < 30; times++) {
      expect(await refusedWith({ ...launch, secret: new Uint8Array(32) }, newBoot(3))).toBe('enrolment-invalid')
    }
    expect(await rig.vm(id)).toEqual(before)
  })
})

test('a certificate is taken for a boot that enrolled, and never an older one than there is', async () => {
  const { launch, id, first } = await certified()
  expect((await certify(launch, first, { serial: 0 })).code).toBe('certificate-invalid')
  expect((await certify(launch, newBoot())).code).toBe('certificate-invalid')
  expect((await certify(launch, first, {}, newBoot())).code).toBe('certificate-invalid')
  expect((await certify(launch, first, { vm: launch.ticket.launch })).code).toBe('certificate-invalid')
  const other = await launchOne()
  expect((await certify({ ...other, ticket: { ...other.ticket, vm: id } }, first)).code).toBe('certificate-invalid')
})

test('the boot that a session goes to is the owner’s alone to choose', async () => {
  const { id, first } = await certified()
  const body = { kind: 'channel', agent: keyOf(first) }
  expect((await rig.call('other', 'vm.session', { id, body })).code).toBe('not-found')
  expect((await sessionAt(id, keyOf(newBoot()))).code).toBe('vm-unreachable')
})
