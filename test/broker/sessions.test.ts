/** How many sessions a user may have at a broker. SPEC §4 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { LIMITS } from '../../protocol/core/limits.ts'
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
  const agents = await Promise.all([...mine, theirs].map(launch => enrolled(rig.broker.origin, launch)))
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
