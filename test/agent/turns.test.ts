/** Changes of drives come one after another for each name; who waits for one drive holds up nobody at another. */
import { expect, test } from 'vitest'
import { Turns } from '../../agent/guest/turns.ts'
import { MortarError } from '../../protocol/core/errors.ts'

/** Turns whose work says when it begins, and goes on until it is let go. */
function newTurns() {
  const turns = new Turns()
  const begun: string[] = []
  const running = new Map<string, () => void>()
  const take = (what: string, names: string[], more: { isOwner?: boolean; signal?: AbortSignal } = {}) => {
    const { isOwner = false, signal = new AbortController().signal } = more
    return turns.take(names, { signal, isOwner }, async () => {
      begun.push(what)
      await new Promise<void>(resolve => running.set(what, resolve))
    })
  }
  const end = async (what: string) => {
    running.get(what)?.()
    await new Promise(resolve => setImmediate(resolve))
  }
  return { turns, begun, take, end }
}
const settle = () => new Promise(resolve => setImmediate(resolve))

test('locks of one drive that take long do not hold up the change of another', async () => {
  const { begun, take } = newTurns()
  for (let count = 0; count < 100; count++) void take(`busy ${count}`, ['a'])
  void take('other', ['b'])
  await settle()
  expect(begun).toEqual(['busy 0', 'other'])
})

test('at one drive the owner comes before the grantees who wait, and after what runs', async () => {
  const { begun, take, end } = newTurns()
  for (const what of ['first', 'second', 'third']) void take(what, ['a'])
  void take('owner’s', ['a'], { isOwner: true })
  void take('owner’s next', ['a'], { isOwner: true })
  await settle()
  for (const what of ['first', 'owner’s', 'owner’s next', 'second']) await end(what)
  expect(begun).toEqual(['first', 'owner’s', 'owner’s next', 'second', 'third'])
})

test('what is for two names runs when both are free, and is not passed by for ever', async () => {
  const { begun, take, end } = newTurns()
  void take('a', ['a'])
  void take('both', ['a', 'b'])
  void take('b', ['b'])
  await settle()
  expect(begun).toEqual(['a'])
  await end('a')
  expect(begun).toEqual(['a', 'both'])
  await end('both')
  expect(begun).toEqual(['a', 'both', 'b'])
})

test('a part of what runs waits for nobody who waits for that', async () => {
  const { turns, begun, take } = newTurns()
  const { signal } = new AbortController()
  const locking = turns.take(['a'], { signal, isOwner: false }, async () => {
    void take('unlock', ['a', 'name'], { isOwner: true })
    await turns.take(['name'], { signal, isOwner: false, isPart: true }, async () => void begun.push('unmount'))
  })
  await locking
  await settle()
  expect(begun).toEqual(['unmount', 'unlock'])
})

test('what is cancelled while it waits leaves at once, and what fails ends its turn', async () => {
  const { turns, begun, take, end } = newTurns()
  const ending = new AbortController()
  void take('runs', ['a'])
  const cancelled = take('cancelled', ['a', 'b'], { signal: ending.signal })
  void take('b', ['b'])
  ending.abort(new MortarError('going-away'))
  await expect(cancelled).rejects.toMatchObject({ code: 'going-away' })
  await settle()
  expect(begun).toEqual(['runs', 'b'])
  await end('runs')
  const { signal } = new AbortController()
  const failing = turns.take(['a'], { signal, isOwner: false }, () => Promise.reject(new MortarError('drive-busy')))
  await expect(failing).rejects.toMatchObject({ code: 'drive-busy' })
  void take('last', ['a'])
  await settle()
  expect(begun.at(-1)).toBe('last')
})
