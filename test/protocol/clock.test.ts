/** Deadlines by a clock that may be set while they wait. SPEC §2.7 */
import { expect, test } from 'vitest'
import { callAt } from '../../protocol/core/clock.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { StillClock } from '../support/still-clock.ts'

/** Time goes on by advance(); what the clock says of it can be set. */
function settable() {
  const steady = new StillClock()
  let setByMs = 0
  return {
    set: (ms: number) => {
      setByMs += ms
    },
    advance: (ms: number) => steady.advance(ms),
    clock: { now: () => steady.now() + setByMs, after: (ms: number, go: () => void) => steady.after(ms, go) },
  }
}

const HOUR_MS = 3_600_000
function waiting(leftMs: number) {
  const time = settable()
  let calls = 0
  const cancel = callAt(time.clock, time.clock.now() + leftMs, () => calls++)
  return { ...time, cancel, calls: () => calls }
}

test('a deadline is met to the millisecond, once', () => {
  for (const leftMs of [1, LIMITS.clockStepMs, HOUR_MS, 30 * 24 * HOUR_MS]) {
    const { advance, calls } = waiting(leftMs)
    advance(leftMs - 1)
    expect(calls()).toBe(0)
    advance(1)
    expect(calls()).toBe(1)
    advance(HOUR_MS)
    expect(calls()).toBe(1)
  }
})

test('one that is over is met at once', () => {
  const { advance, calls } = waiting(-5)
  expect(calls()).toBe(0)
  advance(0)
  expect(calls()).toBe(1)
})

test('one that a clock set forward leaves behind is met within clockStepMs', () => {
  const { set, advance, calls } = waiting(HOUR_MS)
  advance(90_000)
  set(HOUR_MS)
  expect(calls()).toBe(0)
  advance(LIMITS.clockStepMs)
  expect(calls()).toBe(1)
})

test('one is met by the clock, and not by the time that went by, when it is set back', () => {
  const { set, advance, calls } = waiting(HOUR_MS)
  set(-HOUR_MS)
  advance(HOUR_MS)
  expect(calls()).toBe(0)
  advance(HOUR_MS)
  expect(calls()).toBe(1)
})

test('one that is cancelled is not met, however often the clock was looked at before', () => {
  const { advance, cancel, calls } = waiting(HOUR_MS)
  advance(HOUR_MS / 2)
  cancel()
  advance(HOUR_MS)
  expect(calls()).toBe(0)
})
