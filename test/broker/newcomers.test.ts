/** Sockets that have not authenticated: who opens too many loses its own. SPEC §3 */
import { expect, test } from 'vitest'
import { Newcomers } from '../../broker/http/newcomers.ts'
import { LIMITS } from '../../protocol/core/limits.ts'

const most = LIMITS.unauthenticatedPerAddress

test('the oldest of a group that is too large goes, and no other’s', () => {
  const dropped: string[] = []
  const newcomers = new Newcomers<string>(socket => dropped.push(socket))
  newcomers.add('other', 'b')
  for (let i = 0; i < most; i++) newcomers.add(`a${i}`, 'a')
  expect(dropped).toEqual([])
  newcomers.add('late', 'a')
  expect(dropped).toEqual(['a0'])
  expect(['a0', 'a1', 'late', 'other'].map(socket => newcomers.has(socket))).toEqual([false, true, true, true])
})

test('one that authenticated or went makes room', () => {
  const dropped: string[] = []
  const newcomers = new Newcomers<string>(socket => dropped.push(socket))
  for (let i = 0; i < 10 * most; i++) {
    newcomers.add(`a${i}`, 'a')
    newcomers.delete(`a${i}`)
    newcomers.delete('never seen')
  }
  expect(dropped).toEqual([])
  expect([...newcomers]).toEqual([])
})

test('of too many in all, the largest group loses its oldest', () => {
  const dropped: string[] = []
  const newcomers = new Newcomers<string>(socket => dropped.push(socket), 6)
  newcomers.add('alone', 'b')
  for (const i of [0, 1, 2]) newcomers.add(`a${i}`, 'a')
  for (const i of [0, 1]) newcomers.add(`c${i}`, 'c')
  expect(dropped).toEqual([])
  for (const i of [0, 1, 2]) newcomers.add(`d${i}`, `d${i}`)
  expect(dropped).toEqual(['a0', 'a1', 'c0'])
  expect([...newcomers]).toContain('alone')
})
