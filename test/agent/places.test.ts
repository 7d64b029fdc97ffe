/** Places for sessions at an agent: sessions, sessionsEach, sessionsOwner, unprovenSessions. SPEC §4 */
import { describe, expect, test } from 'vitest'
import { type Holder, Places, type Unproven } from '../../agent/sessions/places.ts'
import { LIMITS } from '../../protocol/core/limits.ts'

const code = (code: string) => expect.objectContaining({ code })
const grantee = (name: string | number): Holder => ({ grantee: `${name}` })
const fill = (count: number, take: (i: number) => void) => {
  for (let i = 0; i < count; i++) take(i)
}

describe('places that are taken', () => {
  test('are so many for one grantee, and another is not held up by them', () => {
    const places = new Places()
    const leave = places.take(grantee('b'))
    fill(LIMITS.sessionsEach - 1, () => places.take(grantee('b')))
    expect(() => places.take(grantee('b'))).toThrow(code('limit-exceeded'))
    places.take(grantee('c'))
    leave()
    places.take(grantee('b'))
    expect(() => places.take(grantee('b'))).toThrow(code('limit-exceeded'))
  })

  test('by grantees leave the owner’s', () => {
    const places = new Places()
    fill(LIMITS.sessions - LIMITS.sessionsOwner, i => places.take(grantee(i)))
    expect(() => places.take(grantee('another'))).toThrow(code('limit-exceeded'))
    expect(places.full).toBe(false)
    fill(LIMITS.sessionsOwner, () => places.take('owner'))
    expect(places.full).toBe(true)
    expect(() => places.take('owner')).toThrow(code('limit-exceeded'))
  })

  test('may all be the owner’s', () => {
    const places = new Places()
    const leave = places.take('owner')
    fill(LIMITS.sessions - 1, () => places.take('owner'))
    expect(() => places.take(grantee('b'))).toThrow(code('limit-exceeded'))
    expect(() => places.take('owner')).toThrow(code('limit-exceeded'))
    leave()
    leave()
    places.take(grantee('b'))
    expect(places.full).toBe(true)
  })
})

describe('sessions that are not proven', () => {
  const rig = () => {
    const [places, dropped, entered] = [new Places(), [] as number[], [] as Unproven[]]
    const enter = () => {
      const count = entered.length
      entered.push(places.enter(() => dropped.push(count)))
      return entered.at(-1) as Unproven
    }
    return { places, dropped, entered, enter }
  }

  test('take no place, and beyond the limit the oldest of them goes', () => {
    const { places, dropped, entered, enter } = rig()
    fill(LIMITS.unprovenSessions, enter)
    expect(dropped).toEqual([])
    fill(3, enter)
    expect(dropped).toEqual([0, 1, 2])
    expect(() => entered[0]?.prove('owner')).toThrow(code('connection-lost'))
    expect(places.full).toBe(false)
    fill(LIMITS.sessions - 1, () => places.take('owner'))
    entered.at(-1)?.prove('owner')
    expect(places.full).toBe(true)
  })

  test('that are proven or over are not dropped, and make room', () => {
    const { places, dropped, entered, enter } = rig()
    fill(LIMITS.unprovenSessions, enter)
    entered[0]?.prove(grantee('b'))
    entered[1]?.leave()
    fill(2, enter)
    expect(dropped).toEqual([])
    enter()
    expect(dropped).toEqual([2])
    fill(LIMITS.sessionsEach - 1, () => places.take(grantee('b')))
    expect(() => entered[5]?.prove(grantee('b'))).toThrow(code('limit-exceeded'))
    entered[0]?.leave()
    entered[5]?.prove(grantee('b'))
  })
})
