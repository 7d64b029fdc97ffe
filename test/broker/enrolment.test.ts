/** Agents at the broker: who may enrol, when, and what a hostile one can do. SPEC §3.2 */
import { randomBytes, randomUUID } from 'node:crypto'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Rig } from './rig.ts'
import { ControlEnd, type EnrolBend, enrolled, newBoot, soon } from './sockets.ts'

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

let count = 0
const launchOne = () => rig.launch(`vm-${count++}`)
const dial = () => new ControlEnd(rig.broker.agents)
const causes = async (id: string) => (await rig.vm(id)).events.map(event => event.cause)

describe('enrolment', () => {
  test('the first is taken: keys and addresses on record, the owner named to the agent', async () => {
    const launch = await launchOne()
    const boot = newBoot()
    const control = dial()
    await control.enrol(launch, boot)
    expect(await control.next('enrolled')).toEqual({
      type: 'enrolled',
      owner: encodeBase64url(launch.ticket.owner),
      ownerDh: encodeBase64url(launch.ticket.ownerDh),
      standing: 'current',
    })
    const { state, agent, certificate } = await rig.vm(launch.vm.id)
    expect([state, certificate]).toEqual(['enrolled', null])
    expect(agent).toMatchObject({
      generation: 1,
      agentDh: encodeBase64url(boot.keys.publicKey),
      addresses: ['10.0.2.15'],
      connected: true,
    })
    control.send({ type: 'ready' })
    await expect.poll(async () => (await rig.vm(launch.vm.id)).state).toBe('ready')
    control.socket.close()
    await expect.poll(async () => (await rig.vm(launch.vm.id)).agent?.connected).toBe(false)
  })

  test('a reconnect with the same keys replaces the former socket', async () => {
    const launch = await launchOne()
    const boot = newBoot()
    const former = await enrolled(rig.broker.agents, launch, boot)
    const latter = await enrolled(rig.broker.agents, launch, boot)
    await soon(former.closed, 'the close of the former socket')
    expect((await rig.vm(launch.vm.id)).agent?.connected).toBe(true)
    expect((await rig.vm(launch.vm.id)).state).toBe('enrolled')
    latter.socket.close()
  })

  test('an alarm cannot be pushed out of the events', async () => {
    const launch = await launchOne()
    const boot = newBoot()
    const agent = await enrolled(rig.broker.agents, launch, boot)
    const rival = await enrolled(rig.broker.agents, launch, newBoot())
    for (let times = 0; times < 120; times++) {
      rig.clock.advance(5_000)
      const again = await enrolled(rig.broker.agents, launch, boot)
      again.socket.terminate()
      await expect.poll(() => causes(launch.vm.id).then(all => all.at(-1)), { interval: 1 }).toBe('agent disconnected')
    }
    const all = await causes(launch.vm.id)
    expect(all).toHaveLength(200)
    expect(all.filter(cause => cause.startsWith('ALARM'))).toHaveLength(1)
    for (const end of [agent, rival]) end.socket.close()
  })

  test('an agent that enrols without pause is slowed down', async () => {
    const launch = await launchOne()
    const boot = newBoot()
    const codes = new Set<string>()
    for (let times = 0; times < 15; times++) {
      const control = dial()
      await control.enrol(launch, boot)
      const told = await Promise.race([control.next('enrolled'), control.next('refused')])
      codes.add(told.type === 'refused' ? told.code : 'enrolled')
    }
    expect(codes).toEqual(new Set(['enrolled', 'rate-limited']))
  })

  test.each([
    ['under another launch secret', { secret: new Uint8Array(32) }],
    ['of another launch', { statement: { launch: randomUUID() } }],
    ['of another brick', { enrolment: { brick: new Uint8Array(32) } }],
    ['of a VM that is not there', { statement: { vm: randomUUID() } }],
    ["under keys that are not the agent's", { statement: { agentSign: new Uint8Array(32).fill(9) } }],
    ['by the key that a boot of nobody left', { by: newBoot() }],
  ] as [string, EnrolBend][])('refuses one %s', async (_what, bend) => {
    const launch = await launchOne()
    const control = dial()
    await control.enrol(launch, newBoot(), bend)
    expect(await control.next('refused')).toEqual({ type: 'refused', code: 'enrolment-invalid' })
    await soon(control.closed, 'the close')
    expect((await rig.vm(launch.vm.id)).state).toBe('booting')
  })

  test('refuses a message that was sent on another socket', async () => {
    const launch = await launchOne()
    const first = dial()
    const message = await first.enrol(launch, newBoot())
    await first.next('enrolled')
    first.socket.close()
    const second = dial()
    await second.next('challenge')
    second.send(message)
    expect(await second.next('refused')).toEqual({ type: 'refused', code: 'enrolment-invalid' })
  })

  test('refuses the agent of a VM that was stopped', async () => {
    const launch = await launchOne()
    rig.driver.powerOff(launch.vm.id)
    await expect.poll(async () => (await rig.vm(launch.vm.id)).state).toBe('stopped')
    const control = dial()
    await control.enrol(launch, newBoot())
    expect(await control.next('refused')).toMatchObject({ code: 'vm-state' })
  })
})

describe('a hostile agent', () => {
  test('that is silent is closed after the deadline', async () => {
    const silent = dial()
    await silent.next('challenge')
    rig.clock.advance(LIMITS.authenticationMs + 1)
    await soon(silent.closed, 'the close')
  })

  test.each([
    ['bytes', Buffer.from([1, 2, 3])],
    ['text that is no JSON', 'hello'],
    ['an unknown message', '{"type":"offer"}'],
    ['a report before enrolment', '{"type":"ready"}'],
    [
      'an enrolment of nonsense',
      JSON.stringify({ type: 'enrol', vm: randomUUID(), boot: '%', line: [], body: '%', signature: 'A'.repeat(86) }),
    ],
    ['a message that is too long', 'x'.repeat(LIMITS.controlBytes + 1)],
  ])('that sends %s is closed', async (_what, data) => {
    const control = dial()
    await control.next('challenge')
    control.socket.send(data)
    await soon(control.closed, 'the close')
  })

  test('is not listened to after it was refused', async () => {
    const launch = await launchOne()
    const control = dial()
    await control.enrol(launch, newBoot(), { secret: new Uint8Array(32) })
    const before = rig.log.filter(({ event }) => event === 'agent.refused').length
    for (let times = 0; times < 50; times++) control.socket.send('again')
    await soon(control.closed, 'the close')
    const after = rig.log.filter(({ event }) => event === 'agent.refused').length
    expect(after - before).toBeLessThanOrEqual(1)
  })

  test('that floods is closed', async () => {
    const launch = await launchOne()
    const control = await enrolled(rig.broker.agents, launch)
    for (let times = 0; times < 200; times++) control.send({ type: 'ready' })
    await soon(control.closed, 'the close')
  })

  test('that enrols a second time on its socket is closed', async () => {
    const launch = await launchOne()
    const control = dial()
    const message = await control.enrol(launch, newBoot())
    await control.next('enrolled')
    control.send(message)
    await soon(control.closed, 'the close')
  })

  test('cannot decline the session of another VM', async () => {
    const [victim, attacker] = [await launchOne(), await launchOne()]
    const agent = await enrolled(rig.broker.agents, victim)
    const hostile = await enrolled(rig.broker.agents, attacker)
    const { json } = await rig.call('owner', 'vm.session', { id: victim.vm.id, body: { kind: 'channel' } })
    const offer = await agent.next('offer')
    expect(offer.session).toBe(json.session)
    hostile.send({ type: 'declined', session: json.session, code: 'denied' })
    hostile.send({ type: 'ready' })
    await expect.poll(async () => (await rig.vm(attacker.vm.id)).state).toBe('ready')
    const { joinPair } = await import('./sockets.ts')
    const [client, joined] = await Promise.all([
      joinPair(rig.broker.origin, json.token),
      joinPair(rig.broker.origin, offer.token),
    ])
    client.socket.send(Buffer.from('through'))
    await expect.poll(() => Buffer.concat(joined.received).toString()).toBe('through')
    client.socket.close()
    for (const control of [agent, hostile]) control.socket.close()
  })

  test('cannot tell which VMs there are by what it is refused with', async () => {
    const launch = await launchOne()
    const answers = []
    for (const vm of [launch.vm.id, randomUUID()]) {
      const control = dial()
      await control.enrol({ ...launch, ticket: { ...launch.ticket, vm } }, newBoot(), {
        secret: new Uint8Array(randomBytes(32)),
      })
      answers.push(await control.next('refused'))
    }
    expect(answers[0]).toEqual(answers[1])
  })
})
