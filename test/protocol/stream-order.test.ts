/** What a writer says behind a write that still waits for its window goes behind it. SPEC §7.2 */
import { expect, test } from 'vitest'
import { exec } from '../../protocol/commands/exec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { sessionPair } from '../support/session-pair.ts'

const BYTES = LIMITS.windowBytes + 2

async function openSlow() {
  const seen: (number | string)[] = []
  const { session } = await sessionPair({
    handlers: {
      async exec(call) {
        call.accept({})
        // the window is full by then
        await new Promise(resolve => setTimeout(resolve, 50))
        let bytes = 0
        for await (const item of call.received()) {
          if (item.type === 'data') bytes += item.bytes.length
          else seen.push(bytes, item.name)
        }
        seen.push(bytes, 'END')
        call.post('exit', { code: 0, signal: null })
      },
    },
  })
  return { session, seen, call: await session.open(exec, { argv: ['cat'] }) }
}

test('a half-close and a message wait for the writes before them, and lose none of their bytes', async () => {
  const { session, seen, call } = await openSlow()
  const written = call.write(new Uint8Array(BYTES))
  await new Promise(resolve => setTimeout(resolve, 10))
  call.post('signal', { name: 'SIGHUP' })
  call.end()
  await expect(call.write(new Uint8Array(1))).rejects.toMatchObject({ detail: 'sent after end' })
  for await (const _item of call.received());
  await written
  expect(seen).toEqual([BYTES, 'signal', BYTES, 'END'])
  session.close()
  expect(await session.closed).toBeUndefined()
})

test('a message never overtakes one that waits', async () => {
  const { session, seen, call } = await openSlow()
  const written = call.write(new Uint8Array(BYTES))
  call.post('signal', { name: 'SIGHUP' })
  await written
  call.post('eof', {})
  call.end()
  for await (const _item of call.received());
  expect(seen).toEqual([BYTES, 'signal', BYTES, 'eof', BYTES, 'END'])
  session.close()
})

test('a reset does not wait for anything', async () => {
  const { session, call } = await openSlow()
  const written = call.write(new Uint8Array(BYTES))
  call.end()
  call.reset('denied')
  await expect(written).rejects.toMatchObject({ code: 'denied' })
  session.close()
  expect(await session.closed).toBeUndefined()
})
