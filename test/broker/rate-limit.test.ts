/** How often somebody may call, and what is remembered of callers: no more than is bounded. */
import { expect, test } from 'vitest'
import { Agents } from '../../broker/agents/agents.ts'
import { RateLimit } from '../../broker/http/rate-limit.ts'
import type { ControlSocket } from '../../broker/http/websocket.ts'
import { ShiftClock } from './shift-clock.ts'

const refused = (limit: RateLimit, key: string) => {
  try {
    limit.count(key)
    return false
  } catch {
    return true
  }
}

test('so many at once, and then as many as time gives back', () => {
  const clock = new ShiftClock()
  const limit = new RateLimit(clock, { burst: 3, perSecond: 1 })
  expect([1, 2, 3, 4].map(() => refused(limit, 'a'))).toEqual([false, false, false, true])
  expect(refused(limit, 'b')).toBe(false)
  clock.advance(2_000)
  expect([1, 2, 3].map(() => refused(limit, 'a'))).toEqual([false, false, true])
})

test('of more callers than are remembered those are forgotten that called longest ago, and nobody else', () => {
  const limit = new RateLimit(new ShiftClock(), { burst: 1, perSecond: 0.0001 })
  expect(refused(limit, 'busy')).toBe(false)
  for (let i = 0; i < 30_000; i++) {
    limit.count(`${i}`)
    if (i % 1_000 === 0) expect(refused(limit, 'busy'), `after ${i}`).toBe(true)
  }
  expect([refused(limit, '0'), refused(limit, '29999')]).toEqual([false, true])
})

test('a guest that names another VM with each socket fills neither log nor memory with its refusals', () => {
  let lines = 0
  const log = { warn: () => lines++, info: () => undefined } as never
  const book = { get: () => undefined } as never
  const agents = new Agents({
    ...{ book, log, clock: new ShiftClock(), brokerId: new Uint8Array(32) },
    onEnrolled: () => undefined,
    onDeclined: () => undefined,
  })
  for (let i = 0; i < 2_000; i++) {
    let say = (_text: string) => {}
    const socket: ControlSocket = {
      ...{ address: '127.0.0.1', vm: `vm ${i}` },
      onMessage: listener => {
        say = listener
      },
      ...{ send: () => undefined, onClosed: () => undefined, close: () => undefined, cut: () => undefined },
    }
    agents.accept(socket)
    say('nonsense')
  }
  expect(lines).toBe(10)
})
