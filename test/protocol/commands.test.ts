/** Calls between hostile ends: commands that are abandoned, answers that do not fit, secrets nobody asked for. */
import { expect, test } from 'vitest'
import { driveLock } from '../../protocol/commands/drives.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { sessionPair } from '../support/session-pair.ts'

const params = { argv: ['cat'] }

test('commands whose streams were reset still count until they have ended', async () => {
  let running = 0
  let most = 0
  const finish = Promise.withResolvers<void>()
  const { session } = await sessionPair({
    handlers: {
      async exec(call) {
        most = Math.max(most, ++running)
        call.accept({})
        await finish.promise
        running--
      },
    },
  })
  for (let i = 0; i < LIMITS.streams; i++) (await session.open(exec, params)).reset('going-away')
  await expect(session.open(exec, params)).rejects.toMatchObject({ code: 'limit-exceeded' })
  finish.resolve()
  await expect.poll(() => running).toBe(0)
  await session.open(exec, params)
  expect(most).toBe(LIMITS.streams)
})

test('an answer that the command does not know ends the call at the agent too', async () => {
  const ended = Promise.withResolvers<unknown>()
  const { session } = await sessionPair({
    handlers: {
      async exec(call) {
        call.signal.addEventListener('abort', () => ended.resolve(call.signal.reason))
        call.accept({})
        call.post('exit', { code: 1000, signal: null })
        await ended.promise
      },
    },
  })
  const call = await session.open(exec, params)
  await expect(call.received().next()).rejects.toMatchObject({ code: 'protocol-violation' })
  expect(await ended.promise).toMatchObject({ code: 'protocol-violation' })
})

test('a secret that the command does not take is not sent, and wiped', async () => {
  const { session } = await sessionPair({
    handlers: {
      async exec(call) {
        call.accept({})
        for await (const _ of call.received());
      },
    },
  })
  const call = await session.open(exec, params)
  const secret = new Uint8Array(64).fill(1)
  await expect(call.sendSecret(secret)).rejects.toMatchObject({ code: 'internal' })
  expect(secret).toEqual(new Uint8Array(64))
})

test('a secret that can no longer be sent is wiped all the same', async () => {
  const { session } = await sessionPair({
    handlers: {
      async exec(call) {
        call.accept({})
        for await (const _ of call.received());
      },
    },
  })
  const call = await session.open(exec, params)
  session.close()
  const secret = new Uint8Array(64).fill(1)
  await expect(call.sendSecret(secret)).rejects.toThrow()
  expect(secret).toEqual(new Uint8Array(64))
})

test.each([{ ...params, env: { A: 'a\0b' } }, { ...params, cwd: '/a\0b' }, { argv: ['a\0b'] }])(
  '%j is refused: nothing that is given to a program holds NUL',
  async hostile => {
    const { session } = await sessionPair({ handlers: { exec: async call => call.accept({}) } })
    await expect(session.open(exec, hostile)).rejects.toMatchObject({ code: 'bad-request' })
  },
)

test('an answer names no more than driveHolders programs that hold a drive', () => {
  const holders = (count: number) => Array.from({ length: count }, (_, pid) => ({ pid, user: 'root' }))
  expect(driveLock.ready.safeParse({ locked: false, holders: holders(LIMITS.driveHolders) }).success).toBe(true)
  expect(driveLock.ready.safeParse({ locked: false, holders: holders(LIMITS.driveHolders + 1) }).success).toBe(false)
})
