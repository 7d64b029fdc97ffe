/** The listener of agents apart from the one of people: what each serves, and what an address proves. */
import { connect } from 'node:net'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Rig } from './rig.ts'
import { ControlEnd, enrolled, newBoot, soon } from './sockets.ts'

let rig: Rig
beforeEach(async () => {
  rig = await Rig.start()
})
afterEach(() => rig.close())

test('people’s routes are not served to agents, nor the agents’ path to people', async () => {
  for (const path of ['/v1/broker', '/v1/vms', '/v1/login/challenge', '/']) {
    const { status } = await fetch(`${rig.broker.agents}${path}`, { method: path.includes('login') ? 'POST' : 'GET' })
    expect([path, status]).toEqual([path, 404])
  }
  const launch = await rig.launch('apart')
  const { origin: people } = rig.broker
  const wrong = new ControlEnd(people)
  await soon(wrong.closed, 'the end of it')
  expect(wrong.messages).toEqual([])
  await enrolled(rig.broker.agents, launch)
})

test('a VM that holds the launch secret of another cannot enrol as that one from its own address', async () => {
  const [thief, victim] = [await rig.launch('thief'), await rig.launch('victim')]
  const slot = rig.driver.domains.get(thief.vm.id)?.definition.network
  rig.network.slots.set('127.0.0.1', slot?.kind === 'user' ? slot.uid : 0)
  // though it names the other one as it dials
  const socket = new ControlEnd(rig.broker.agents, victim.vm.id)
  await socket.enrol(victim, newBoot())
  expect(await socket.next('refused')).toMatchObject({ code: 'enrolment-invalid' })
  expect((await rig.vm(victim.vm.id)).state).toBe('booting')
  await enrolled(rig.broker.agents, thief)
})

test('a VM has so many connections, and one more is closed at once', async () => {
  await rig.launch('busy')
  rig.network.slots.set('127.0.0.1', 2)
  const { hostname, port } = new URL(rig.broker.agents)
  const closed: number[] = []
  const sockets = Array.from({ length: 2 * LIMITS.sessionsPerVm + 10 }, (_, index) => {
    const socket = connect(Number(port), hostname)
    socket.on('error', () => undefined)
    socket.on('close', () => closed.push(index))
    return socket
  })
  await expect.poll(() => closed.length).toBe(10)
  for (const socket of sockets) socket.destroy()
  rig.network.slots.clear()
})

test('a VM is not launched while its network does not hold, and the next one may be', async () => {
  rig.network.fault = new MortarError('network-unusable', 'its bridge is gone')
  const launch = rig.sign()
  expect(await rig.post(launch, 'kept-out')).toMatchObject({ code: 'network-unusable' })
  expect(rig.driver.domains.size).toBe(0)
  rig.network.fault = undefined
  expect((await rig.post(launch, 'let-in')).status).toBe(200)
})

test('each VM has a place of its own, which is free again once it is deleted', async () => {
  const slotOf = (id: string) => {
    const network = rig.driver.domains.get(id)?.definition.network
    return network?.kind === 'user' ? network.uid : undefined
  }
  const [one, two] = [await rig.launch('one'), await rig.launch('two')]
  expect([slotOf(one.vm.id), slotOf(two.vm.id)]).toEqual([2, 3])
  await rig.call('owner', 'vm.delete', { id: one.vm.id })
  await rig.restart()
  expect(slotOf((await rig.launch('three')).vm.id)).toBe(2)
  expect(rig.network.left).toBe(true)
})

test('the owner is told of a VM that runs on a network which the broker has no more', async () => {
  const { vm } = await rig.launch('moved')
  await rig.stopBroker()
  const other = new Rig({ network: 'user', dataDir: rig.dataDir })
  Object.assign(other, { people: rig.people, driver: rig.driver })
  await other.startBroker()
  const events = (await other.vm(vm.id)).events.map(({ cause }) => cause)
  expect(events.at(-1)).toMatch(/launched on the isolated network.*cannot reach/)
  await other.close()
  await rig.startBroker()
})
