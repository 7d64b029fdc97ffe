/** Sockets that wait for their enrolment: a hostile agent that opens many keeps nobody else out. SPEC §3.2 */
import { randomUUID } from 'node:crypto'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Rig } from './rig.ts'
import { ControlEnd, enrolled, newBoot, soon } from './sockets.ts'

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

let count = 0
const launchOne = () => rig.launch(`vm-${count++}`)
const dial = () => new ControlEnd(rig.broker.agents)

test('an agent that opens sockets by the hundred keeps no honest one out', async () => {
  const launch = await launchOne()
  const silent = Array.from({ length: 400 }, dial)
  await Promise.all(silent.slice(-200).map(control => control.next('challenge')))
  const honest = await enrolled(rig.broker.agents, launch)
  expect((await rig.vm(launch.vm.id)).state).toBe('enrolled')
  for (const control of silent) control.socket.terminate()
  honest.socket.close()
})

test.each(['an address', 'a VM'])(
  'an agent that opens sockets of %s beyond the limit loses its own oldest',
  async whose => {
    rig.clock.advance(LIMITS.authenticationMs + 1)
    const named = whose === 'a VM' ? (await launchOne()).vm.id : undefined
    const open = async () => {
      const control = new ControlEnd(rig.broker.agents, named)
      await control.next('challenge')
      return control
    }
    const silent: ControlEnd[] = []
    for (let i = 0; i < LIMITS.unauthenticatedPerAddress; i++) silent.push(await open())
    await new Promise(resolve => setTimeout(resolve, 100))
    expect(silent.filter(({ socket }) => socket.readyState === socket.OPEN)).toHaveLength(silent.length)
    silent.push(await open())
    await soon((silent[0] as ControlEnd).closed, 'the close of the oldest')
    expect(silent.slice(1).every(({ socket }) => socket.readyState === socket.OPEN)).toBe(true)
    for (const { socket } of silent) socket.terminate()
  },
)

test('an agent that opens sockets without pause costs no other VM its own, though all come from one address', async () => {
  const [launch, hostile] = [await launchOne(), await launchOne()]
  const honest = new ControlEnd(rig.broker.agents, launch.vm.id)
  const { nonce } = await honest.next('challenge')
  const flood = [undefined, hostile.vm.id, randomUUID()].flatMap(vm =>
    Array.from({ length: 100 }, () => new ControlEnd(rig.broker.agents, vm)),
  )
  await Promise.all(flood.map(control => control.next('challenge')))
  honest.messages.push({ type: 'challenge', nonce, broker: rig.broker.id })
  await honest.enrol(launch, newBoot())
  await honest.next('enrolled')
  for (const { socket } of [...flood, honest]) socket.terminate()
})
