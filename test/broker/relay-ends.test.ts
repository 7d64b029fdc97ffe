/** How joined pairs end: in order, cut off, by a broken rule, by a reboot; and many of them at once. SPEC §4 */
import { randomBytes } from 'node:crypto'
import { afterAll, beforeAll, beforeEach, describe, expect, test } from 'vitest'
import { LIMITS } from '../../protocol/core/limits.ts'
import { frame, type Pair, PairRig } from './pairs.ts'
import type { Rig } from './rig.ts'
import { enrolled, newBoot, soon } from './sockets.ts'

let pairs: PairRig
let rig: Rig
beforeAll(async () => {
  pairs = await PairRig.start()
  rig = pairs.rig
})
afterAll(() => rig.close())
beforeEach(() => {
  pairs.agent.messages.length = 0
})

describe('ends', () => {
  test('a socket that is cut makes the other end abnormally', async () => {
    for (const [cut, other] of [
      ['client', 'agent'],
      ['agent', 'client'],
    ] as const) {
      const pair = await pairs.newPair()
      pair[cut].socket.terminate()
      expect((await soon(pair[other].closed, 'the close')).code).toBe(1006)
    }
  })

  test('a socket that only stops sending makes the other end abnormally', async () => {
    const { client, agent: joined } = await pairs.pairWithRawClient()
    client.write(frame(Buffer.from('last')))
    client.end()
    expect((await soon(joined.closed, 'the close')).code).toBe(1006)
    expect(joined.received.map(String)).toEqual(['last'])
    await expect.poll(() => client.closed).toBe(true)
  })

  test('a close code and its reason go on to the other end as they are', async () => {
    const pair = await pairs.newPair()
    pair.agent.socket.close(4321, 'a reason')
    expect(await soon(pair.client.closed, 'the close')).toEqual({ code: 4321, reason: 'a reason' })
    expect((await soon(pair.agent.closed, 'the answer')).code).toBe(4321)
  })

  test.each([
    ['a text message', frame(Buffer.from('text'), 1)],
    ['reserved bits', Buffer.from([0xc2, 0x80, 0, 0, 0, 0])],
    ['an unmasked frame', Buffer.from([0x82, 0x01, 0x41])],
    ['a message that is too long', frame(Buffer.alloc(65_536))],
    ['random bytes', Buffer.from([0xff, ...randomBytes(200)])],
  ])('%s ends both with 1002', async (_what, bytes) => {
    const { client, agent: joined } = await pairs.pairWithRawClient()
    // also right behind a good frame whose second half comes with it
    const good = frame(Buffer.from('good'))
    client.write(good.subarray(0, 7))
    await new Promise(resolve => setTimeout(resolve, 10))
    client.write(Buffer.concat([good.subarray(7), bytes]))
    expect((await soon(joined.closed, 'the close')).code).toBe(1002)
    expect(joined.received.map(String)).toEqual(['good'])
    client.resume()
    await expect.poll(() => client.closed).toBe(true)
  })

  test('a peer that never answers a close, and never closes, is cut off', async () => {
    const { client, agent: joined } = await pairs.pairWithRawClient()
    client.pause()
    joined.socket.close(1000)
    await soon(joined.closed, 'the close')
    let gone = false
    client.on('close', () => {
      gone = true
    })
    await new Promise(resolve => setTimeout(resolve, 50))
    rig.clock.advance(5_001)
    client.resume()
    await expect.poll(() => gone).toBe(true)
  })

  test('an agent that reboots takes its pairs along', async () => {
    const pair = await pairs.newPair()
    rig.driver.reboot(pairs.vmId)
    for (const end of [pair.client, pair.agent]) {
      expect(await soon(end.closed, 'the close')).toEqual({ code: 4000, reason: 'going-away' })
    }
    pairs.agent = await enrolled(rig.broker.agents, pairs.launch, newBoot(2))
  })

  test('all the pairs that three users may have carry their own bytes each', async () => {
    const all: Pair[] = []
    for (const who of ['owner', 'other', 'administrator'] as const) {
      const each = await rig.launch(`many-${who}`, who)
      const control = await enrolled(rig.broker.agents, each)
      for (let i = 0; i < LIMITS.sessionsPerUser; i++) {
        all.push(await pairs.newPair(each.vm.id, control, who))
      }
    }
    for (const [index, { client, agent: joined }] of all.entries()) {
      client.socket.send(Buffer.alloc(10_000, index))
      joined.socket.send(Buffer.alloc(5_000, index + 1))
    }
    await expect
      .poll(() =>
        all.every(({ client, agent: joined }) => client.receivedBytes === 5_000 && joined.receivedBytes === 10_000),
      )
      .toBe(true)
    for (const [index, { client, agent: joined }] of all.entries()) {
      expect(Buffer.concat(joined.received).equals(Buffer.alloc(10_000, index))).toBe(true)
      expect(Buffer.concat(client.received).equals(Buffer.alloc(5_000, index + 1))).toBe(true)
      client.socket.close(1000)
    }
    await Promise.all(all.map(({ agent: joined }) => soon(joined.closed, 'the close')))
  })
})
