/** What is held in shares: who takes too much loses its own. SPEC §3 */
import { expect, test } from 'vitest'
import { Shares } from '../../broker/shares/shares.ts'

const each = 20

function sharesOf(most = Number.POSITIVE_INFINITY) {
  const dropped: string[] = []
  return { dropped, shares: new Shares<string>(thing => dropped.push(thing), { each, most }) }
}

test('the oldest of a group that is too large goes, and no other’s', () => {
  const { dropped, shares } = sharesOf()
  shares.add('other', 'b')
  for (let i = 0; i < each; i++) shares.add(`a${i}`, 'a')
  expect(dropped).toEqual([])
  shares.add('late', 'a')
  expect(dropped).toEqual(['a0'])
  expect(['a0', 'a1', 'late', 'other'].map(thing => shares.has(thing))).toEqual([false, true, true, true])
})

test('one that ended, or went on to another group, makes room', () => {
  const { dropped, shares } = sharesOf()
  for (let i = 0; i < 10 * each; i++) {
    shares.add(`a${i}`, 'a')
    if (i % 2 === 0) shares.delete(`a${i}`)
    else shares.add(`a${i}`, `group ${i}`)
    shares.delete('never seen')
  }
  expect(dropped).toEqual([])
  expect([...shares]).toHaveLength(5 * each)
})

test('of too many in all, the largest group loses its oldest', () => {
  const { dropped, shares } = sharesOf(6)
  shares.add('alone', 'b')
  for (const i of [0, 1, 2]) shares.add(`a${i}`, 'a')
  for (const i of [0, 1]) shares.add(`c${i}`, 'c')
  expect(dropped).toEqual([])
  for (const i of [0, 1, 2]) shares.add(`d${i}`, `d${i}`)
  expect(dropped).toEqual(['a0', 'a1', 'c0'])
  expect([...shares]).toContain('alone')
})

test('a group may have a limit of its own', () => {
  const { dropped, shares } = sharesOf()
  for (const i of [0, 1, 2]) shares.add(`a${i}`, 'a', 2)
  expect(dropped).toEqual(['a0'])
})
