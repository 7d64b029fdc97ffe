/** How many sessions there may be at a broker: of a user, of a VM, and in all. SPEC §4 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { Relay } from '../../broker/relay/relay.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { StillClock } from '../support/still-clock.ts'
import { type PersonName, Rig } from './rig.ts'
import { enrolled } from './sockets.ts'

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

test('a user has so many sessions at a time, at whichever VMs, and another user is not held up by them', async () => {
  const mine = [await rig.launch('one'), await rig.launch('two')]
  const theirs = await rig.launch('three', 'other')
  const agents = await Promise.all([...mine, theirs].map(launch => enrolled(rig.broker.agents, launch)))
  const ask = (who: PersonName, id = '') => rig.call(who, 'vm.session', { id, body: { kind: 'channel' } })
  for (let i = 0; i < LIMITS.sessionsPerUser; i++) {
    expect((await ask('owner', mine[i % 2]?.vm.id)).status).toBe(200)
  }
  for (const { vm } of mine) expect((await ask('owner', vm.id)).code).toBe('rate-limited')
  expect((await ask('other', theirs.vm.id)).status).toBe(200)
  expect((await ask('administrator', mine[0]?.vm.id)).status).toBe(200)
  rig.clock.advance(LIMITS.joinMs + 1)
  expect((await ask('owner', mine[0]?.vm.id)).status).toBe(200)
  for (const { socket } of agents) socket.terminate()
})

/** Opens as many as it can, up to `most`; how many that were. */
function newRelay() {
  const clock = new StillClock()
  const relay = new Relay({ clock, onJoined() {}, onEnded() {} })
  const open = (most: number, vmId: string, user: string, isOwner = false) => {
    for (let i = 0; i < most; i++) {
      try {
        relay.open({ vmId, user, isOwner })
      } catch (thrown) {
        expect(thrown).toMatchObject({ code: 'rate-limited' })
        return i
      }
    }
    return most
  }
  return { clock, open }
}

test('no user but its owner has more than so many of one VM, and all of them leave the owner as many', () => {
  const { clock, open } = newRelay()
  const others = LIMITS.sessionsPerVm - LIMITS.sessionsPerVmEach
  expect(open(99, 'vm', 'a')).toBe(LIMITS.sessionsPerVmEach)
  for (let i = 1; i < others / LIMITS.sessionsPerVmEach; i++) {
    expect(open(99, 'vm', `b${i}`)).toBe(LIMITS.sessionsPerVmEach)
  }
  expect(open(99, 'vm', 'c')).toBe(0)
  expect(open(99, 'vm', 'owner', true)).toBe(LIMITS.sessionsPerVmEach)
  // another VM is not held up
  expect(open(99, 'another', 'a')).toBe(LIMITS.sessionsPerVmEach)
  clock.advance(LIMITS.joinMs)
  expect(open(99, 'vm', 'a')).toBe(LIMITS.sessionsPerVmEach)
})

test('a VM has so many, and its owner may have them all', () => {
  const { open } = newRelay()
  expect(open(99, 'vm', 'owner', true)).toBe(LIMITS.sessionsPerVm)
  expect(open(1, 'vm', 'a')).toBe(0)
})

test('a broker has so many of all users', () => {
  const { open } = newRelay()
  let all = 0
  for (let i = 0; all < LIMITS.sessionsPerBroker; i++) all += open(LIMITS.sessionsPerVm, `vm${i}`, `user${i}`, true)
  expect(all).toBe(LIMITS.sessionsPerBroker)
  expect(open(1, 'another', 'another', true)).toBe(0)
})

test('who may use the VM of another leaves its owner the rest', async () => {
  rig.clock.advance(LIMITS.joinMs + 1)
  const shared = await rig.launch('shared')
  const agent = await enrolled(rig.broker.agents, shared)
  const ask = async (who: PersonName) =>
    (await rig.call(who, 'vm.session', { id: shared.vm.id, body: { kind: 'channel' } })).status
  for (let i = 0; i < LIMITS.sessionsPerVmEach; i++) expect(await ask('administrator')).toBe(200)
  expect(await ask('administrator')).toBe(429)
  for (let i = 0; i < LIMITS.sessionsPerVm - LIMITS.sessionsPerVmEach; i++) expect(await ask('owner')).toBe(200)
  expect(await ask('owner')).toBe(429)
  agent.socket.terminate()
})
