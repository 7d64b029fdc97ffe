/** Kept calls at their edges: messages in plenty, input that nobody reads, calls given up, sessions that end at a bad moment. SPEC §8.2 */
import { expect, test } from 'vitest'
import { exec } from '../../protocol/commands/exec.ts'
import { terminal } from '../../protocol/commands/terminal.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { Agent, echo, keptCall, newId, soon } from '../support/kept-agent.ts'
import { wallClock } from '../support/session-pair.ts'

test('more messages than may be unread wait, and none is lost with a socket that is dead for long', async () => {
  const seen: string[] = []
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      for await (const item of call.received()) {
        if (item.type === 'message' && item.name === 'eof') break
        if (item.type === 'message') seen.push(item.body.name)
        await soon(1)
      }
      call.post('exit', { code: 0, signal: null })
    },
  })
  const kept = keptCall(exec)
  await (await agent.session()).attach(kept)
  const call = await kept.call
  const post = (count: number) => {
    for (let i = 0; i < count; i++) call.post('signal', { name: i % 2 ? 'SIGHUP' : 'SIGINT' })
  }
  post(50)
  await expect.poll(() => seen.length).toBe(50)
  agent.cutHalf()
  post(30)
  await soon()
  await (await agent.session()).attach(kept)
  call.post('eof', {})
  for await (const _item of call.received());
  expect(seen).toHaveLength(80)
})

test('of sizes that wait only the last goes, behind what was typed before it', async () => {
  const seen: (number | string)[] = []
  const agent = new Agent({
    async terminal(call) {
      call.accept({})
      for await (const item of call.received()) {
        if (item.type === 'message') seen.push(item.body.cols)
        else seen.push(String.fromCharCode(...item.bytes))
        if (seen.at(-1) === 'q') break
      }
      call.post('exit', { code: 0, signal: null })
    },
  })
  const kept = new KeptClientCall({
    ...{ command: terminal, params: { cols: 80, rows: 24 }, id: newId(), clock: wallClock },
    ...{ onLost() {}, onOver() {} },
  })
  await (await agent.session()).attach(kept)
  const call = await kept.call
  agent.cut()
  await soon()
  for (let cols = 1; cols < 200; cols++) call.post('resize', { cols, rows: 1 })
  await call.write(Uint8Array.of(0x61))
  call.post('resize', { cols: 500, rows: 1 })
  await call.write(Uint8Array.of(0x71))
  await (await agent.session()).attach(kept)
  for await (const _item of call.received());
  expect(seen).toEqual(['a', 500, 'q'])
})

test('a program that ends without reading its input loses nothing of what it said', async () => {
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      await soon(20)
      await call.write(new Uint8Array(100_000).fill(5))
      call.post('exit', { code: 3, signal: null })
    },
  })
  const kept = keptCall(exec)
  await (await agent.session()).attach(kept)
  const call = await kept.call
  void call.write(new Uint8Array(3_000_000)).catch(() => undefined)
  const items = call.received()
  await items.next()
  await soon(50)
  agent.cut()
  await soon()
  await (await agent.session()).attach(kept)
  let last: unknown
  for await (const item of items) last = item
  expect(last).toMatchObject({ type: 'message', body: { code: 3 } })
})

test('a call that is given up while nobody can be told is ended by the next session', async () => {
  const agent = new Agent({ exec: echo })
  const kept = keptCall(exec)
  await (await agent.session()).attach(kept)
  const call = await kept.call
  agent.cut()
  await soon()
  call.reset('going-away')
  await expect(call.received().next()).rejects.toMatchObject({ code: 'going-away' })
  expect(agent.kept.size).toBe(1)
  await (await agent.session()).attach(kept)
  await soon()
  expect(agent.kept.size).toBe(0)
})

test('a session that ends with its ACCEPT leaves the call to the next', async () => {
  const agent = new Agent({ exec: echo })
  const kept = keptCall(exec)
  const session = await agent.session()
  const attaching = session.attach(kept)
  session.close()
  await attaching.catch(() => undefined)
  await (await agent.session()).attach(kept).catch(() => undefined)
  // begun or not, the call is in no state between
  const later = keptCall(exec)
  const mux = await agent.session()
  await mux.attach(later)
  const call = await later.call
  call.post('eof', {})
  for await (const _item of call.received());
  await soon()
  expect(agent.kept.size).toBeLessThanOrEqual(1)
})
