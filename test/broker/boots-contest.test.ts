/** Boots at the broker that contest which of them is the VM: by one key, or by the word of one that runs. SPEC §2.8, §3.2 */
import { describe, expect, test } from 'vitest'
import { signProtest } from '../../protocol/control/boot.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { alarms, arrive, certified, certify, currentOf, dial, keyOf, refusedWith, rig, sessionAt } from './boot-rig.ts'
import { newBoot, soon } from './sockets.ts'

describe('a second boot by one key', () => {
  test('of the launch secret is no reboot: both wait for the owner, and no session goes to either', async () => {
    const { launch, id, first, agent } = await certified()
    const thief = newBoot(2)
    const rival = dial()
    await rival.enrol(launch, thief)
    expect(await rival.next('enrolled')).toMatchObject({ standing: 'waiting' })
    expect(await currentOf(id)).toBe(keyOf(first))
    expect(await alarms(id)).toHaveLength(1)
    expect((await sessionAt(id)).code).toBe('boot-contested')
    expect((await rig.call('owner', 'vm.session', { id, body: { kind: 'ssh' } })).code).toBe('boot-contested')
    expect((await certify(launch, first)).code).toBe('boot-contested')
    expect((await sessionAt(id, keyOf(thief))).status).toBe(200)
    expect((await rival.next('offer')).kind).toBe('channel')

    expect((await certify(launch, first, { confirmed: true })).status).toBe(200)
    await soon(rival.closed, 'the close of the one that was not chosen')
    expect(await rig.vm(id)).toMatchObject({ waiting: [], agent: { agentSign: keyOf(first), connected: true } })
    expect((await sessionAt(id)).status).toBe(200)
    // decided: whoever has that secret can only wait
    await arrive(launch, newBoot(3))
    expect(await alarms(id)).toHaveLength(1)
    expect((await sessionAt(id)).status).toBe(200)
    agent.socket.close()
  })

  test('of the next-boot key contests, whichever came first, and the real one is never turned away', async () => {
    const { launch, id, first } = await certified()
    rig.driver.reboot(id)
    const [thief, real] = [newBoot(2), newBoot(2)]
    const stolen = await arrive(launch, thief, first)
    const late = dial()
    await late.enrol(launch, real, { by: first })
    expect(await late.next('enrolled')).toMatchObject({ standing: 'waiting' })
    expect((await sessionAt(id)).code).toBe('boot-contested')
    await rig.restart()
    expect((await sessionAt(id)).code).toBe('boot-contested')
    await arrive(launch, thief, first)
    await arrive(launch, real, first)
    expect((await certify(launch, real, { confirmed: true }, first)).status).toBe(200)
    expect(await rig.vm(id)).toMatchObject({ waiting: [], agent: { agentSign: keyOf(real), connected: true } })
    expect(await refusedWith(launch, thief, first)).toBe('enrolment-invalid')
    stolen.socket.close()
  })

  test('after the first was certified contests too', async () => {
    const { launch, id, first } = await certified()
    rig.driver.reboot(id)
    const thief = newBoot(2)
    await arrive(launch, thief, first)
    expect((await certify(launch, thief, {}, first)).status).toBe(200)
    await arrive(launch, newBoot(2), first)
    expect((await sessionAt(id)).code).toBe('boot-contested')
    expect(await alarms(id)).toHaveLength(1)
  })

  test('makes one alarm, however many come, and no more wait than waitingBoots', async () => {
    const { launch, id } = await certified()
    for (let times = 0; times < LIMITS.waitingBoots; times++) {
      rig.clock.advance(5_000)
      await arrive(launch, newBoot(2))
    }
    rig.clock.advance(5_000)
    expect(await refusedWith(launch, newBoot(2))).toBe('limit-exceeded')
    expect(await alarms(id)).toHaveLength(1)
    expect((await rig.vm(id)).waiting).toHaveLength(LIMITS.waitingBoots)
  })
})

describe('a boot that runs', () => {
  test('disowns the one that says it follows, which then waits', async () => {
    const { launch, id, first, agent } = await certified()
    const thief = newBoot(2)
    await arrive(launch, thief, first)
    const { boot } = await agent.next('succeeded')
    const signature = encodeBase64url(signProtest(decodeBase64url(boot), first.seed))
    agent.send({ type: 'protest', signature })
    await expect.poll(() => alarms(id)).toHaveLength(1)
    rig.clock.advance(LIMITS.protestMs)
    expect(await rig.vm(id)).toMatchObject({ agent: { agentSign: keyOf(first) }, waiting: [{ protest: signature }] })
    expect((await sessionAt(id)).code).toBe('boot-contested')
    // the agent made another key, which the owner certifies with the choice
    const renewed = newBoot()
    const nextBoot = signingPublicKey(renewed.nextSeed)
    expect((await certify(launch, first, { confirmed: true, nextBoot })).status).toBe(200)
    expect((await sessionAt(id)).status).toBe(200)
    rig.driver.reboot(id)
    expect(await refusedWith(launch, newBoot(2), first)).toBe('enrolment-invalid')
    const second = newBoot(2)
    await arrive(launch, second, renewed)
    expect(await currentOf(id)).toBe(keyOf(second))
  })

  test('and was away for a moment disowns the one that took its place', async () => {
    const { launch, id, first, agent } = await certified()
    agent.socket.close()
    await expect.poll(async () => (await rig.vm(id)).agent?.connected).toBe(false)
    await arrive(launch, newBoot(2), first)
    const back = await arrive(launch, first)
    const { boot } = await back.next('succeeded')
    back.send({ type: 'protest', signature: encodeBase64url(signProtest(decodeBase64url(boot), first.seed)) })
    await expect.poll(() => alarms(id)).toHaveLength(1)
    expect((await sessionAt(id)).code).toBe('boot-contested')
  })

  test('is not believed without its signature', async () => {
    const { launch, id, first, agent } = await certified()
    await arrive(launch, newBoot(2), first)
    const { boot } = await agent.next('succeeded')
    agent.send({ type: 'protest', signature: encodeBase64url(signProtest(decodeBase64url(boot), first.nextSeed)) })
    await soon(agent.closed, 'the close')
    expect(await alarms(id)).toEqual([])
  })
})
