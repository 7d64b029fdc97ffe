/** Kept calls: what is sent in one session and what in the next, and that nothing is lost or doubled between them. SPEC §8.2 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import { exec } from '../../protocol/commands/exec.ts'
import { terminal } from '../../protocol/commands/terminal.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { Agent, echo, keptCall, lastId, lasting, params, soon } from '../support/kept-agent.ts'
import { wallClock } from '../support/session-pair.ts'

const byteAt = (position: number) => (position * 7 + (position >> 8)) % 251

test('bytes both ways, messages and the exit come once each and in order, wherever the socket breaks', async () => {
  const sizes = fc.array(fc.oneof(fc.integer({ min: 1, max: 3_000 }), fc.constantFrom(40_000, 70_000)), {
    minLength: 1,
    maxLength: 12,
  })
  const cuts = fc.array(fc.record({ before: fc.nat(11), turns: fc.nat(12) }), { maxLength: 4 })
  let cutCount = 0
  await fc.assert(
    fc.asyncProperty(sizes, cuts, async (pieces, breaks) => {
      const agent = new Agent({ exec: echo })
      const call = await lasting(agent)
      let sent = 0
      const writing = (async () => {
        for (const [i, size] of pieces.entries()) {
          for (const { turns } of breaks.filter(({ before }) => before === i)) {
            for (let turn = 0; turn < turns; turn++) await Promise.resolve()
            if (turns % 3 === 0) await soon(1)
            agent.cut()
            cutCount++
          }
          const piece = Uint8Array.from({ length: size }, (_, j) => byteAt(sent + j))
          sent += size
          await call.write(piece)
        }
        call.post('eof', {})
      })()
      let echoed = 0
      const exits: unknown[] = []
      for await (const item of call.received()) {
        if (item.type === 'message') exits.push(item.body)
        else if (item.lane === 0) {
          expect(item.bytes.every((byte, i) => byte === byteAt(echoed + i))).toBe(true)
          echoed += item.bytes.length
        }
      }
      await writing
      const total = pieces.reduce((sum, size) => sum + size, 0)
      expect(echoed).toBe(total)
      expect(exits).toEqual([{ code: total % 256, signal: null }])
      await soon(1)
      expect(agent.kept.size).toBe(0)
    }),
    { numRuns: 100 },
  )
  expect(cutCount).toBeGreaterThan(30)
})

test('bulk output that nobody takes waits; nothing of it is lost', async () => {
  const size = 12 * 2 ** 20
  let written = 0
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      for (; written < size; written += 65_536) {
        await call.write(Uint8Array.from({ length: 65_536 }, (_, i) => byteAt(written + i)))
      }
      call.post('exit', { code: 0, signal: null })
    },
  })
  const session = await agent.session()
  const kept = keptCall(exec)
  await session.attach(kept)
  const call = await kept.call
  agent.cut()
  await soon(300)
  expect(written).toBeLessThanOrEqual(LIMITS.spoolBytes)
  expect(written).toBeGreaterThan(LIMITS.mostWindowBytes)
  await (await agent.session()).attach(kept)
  let read = 0
  let wrong = 0
  for await (const item of call.received()) {
    if (item.type === 'data') for (const byte of item.bytes) if (byte !== byteAt(read++)) wrong++
  }
  expect([read, wrong]).toEqual([size, 0])
})

test('a terminal goes on without a reader; what had to be dropped is a gap of exactly that size', async () => {
  const size = 3 * LIMITS.spoolBytes
  const agent = new Agent({
    async terminal(call) {
      call.accept({})
      await call.write(Uint8Array.from([1, 2, 3]))
      await soon(50)
      for (let written = 0; written < size; written += 65_536) await call.write(new Uint8Array(65_536).fill(9))
      call.post('exit', { code: 0, signal: null })
    },
  })
  const id = new Uint8Array(16).fill(200)
  const kept = new KeptClientCall({
    command: terminal,
    params: { cols: 80, rows: 24 },
    id,
    clock: wallClock,
    onLost() {},
    onOver() {},
  })
  await (await agent.session()).attach(kept)
  const items = (await kept.call).received()
  expect((await items.next()).value).toMatchObject({ type: 'data', bytes: Uint8Array.from([1, 2, 3]) })
  agent.cut()
  await soon(400)
  await (await agent.session()).attach(kept)
  const gap = (await items.next()).value
  expect(gap).toMatchObject({ type: 'gap' })
  let read = 0
  let exits = 0
  for await (const item of items) {
    if (item.type === 'data') read += item.bytes.length
    else exits++
  }
  expect(read + (gap as { count: number }).count).toBe(Math.ceil(size / 65_536) * 65_536)
  expect(read).toBeGreaterThan(LIMITS.mostWindowBytes)
  expect(exits).toBe(1)
})

test('the end of a command that came while nobody was there is told to who comes', async () => {
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      await soon(20)
      await call.write(Uint8Array.of(42))
      call.post('exit', { code: 7, signal: null })
    },
  })
  const kept = keptCall(exec)
  await (await agent.session()).attach(kept)
  agent.cut()
  await soon(60)
  await (await agent.session()).attach(kept)
  const items: unknown[] = []
  for await (const item of (await kept.call).received()) items.push(item)
  expect(items).toMatchObject([{ type: 'data' }, { type: 'message', body: { code: 7 } }])
  await soon()
  expect(agent.kept.size).toBe(0)
})

test.each([
  ['when both ends noticed', (agent: Agent) => agent.cut()],
  ['also when its RESET was lost with a socket that only the client noticed', (agent: Agent) => agent.cutHalf()],
])('so is its failure, %s', async (_, breakSocket) => {
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      await soon(20)
      throw new MortarError('exec-failed')
    },
  })
  const kept = keptCall(exec)
  await (await agent.session()).attach(kept)
  breakSocket(agent)
  await soon(60)
  await expect((await agent.session()).attach(kept)).rejects.toMatchObject({ code: 'exec-failed' })
  expect(agent.kept.size).toBe(0)
})

test('a reset ends the program at once, and the end of the session in order does not', async () => {
  const ends: string[] = []
  const agent = new Agent({
    async exec(call) {
      call.signal.addEventListener('abort', () => ends.push((call.signal.reason as MortarError).code))
      call.accept({})
      for await (const _item of call.received());
    },
  })
  const kept = keptCall(exec)
  const session = await agent.session()
  await session.attach(kept)
  session.close()
  await soon(20)
  expect([ends, agent.kept.size]).toEqual([[], 1])
  await (await agent.session()).attach(kept)
  ;(await kept.call).reset('denied')
  await soon(20)
  expect([ends, agent.kept.size]).toEqual([['denied'], 0])
})

test('a call begun in a session that broke before its ACCEPT is found, or is known not to have begun', async () => {
  let begun = 0
  const agent = new Agent({
    async exec(call) {
      begun++
      await soon(20)
      call.accept({})
      for await (const _item of call.received());
    },
  })
  const kept = keptCall(exec)
  const first = (await agent.session()).attach(kept)
  await soon(5)
  agent.cut()
  await expect(first).rejects.toMatchObject({ code: 'connection-lost' })
  await (await agent.session()).attach(kept)
  expect(begun).toBe(1)
  // its OPEN never left, or is held back: it begins nothing any more
  const unheard = keptCall(exec)
  const second = (await agent.session()).attach(unheard)
  agent.cut()
  await expect(second).rejects.toMatchObject({ code: 'connection-lost' })
  const session = await agent.session()
  await expect(session.attach(unheard)).rejects.toMatchObject({ code: 'call-unknown' })
  const late = new KeptClientCall({ command: exec, params, id: lastId(), clock: wallClock, onLost() {}, onOver() {} })
  await expect(session.attach(late)).rejects.toMatchObject({ code: 'bad-request' })
  expect(begun).toBe(1)
})

test('who comes again takes the call from a session that is not known to be dead', async () => {
  const agent = new Agent({ exec: echo })
  const old = keptCall(exec)
  await (await agent.session()).attach(old)
  const call = await old.call
  agent.cutHalf()
  await soon()
  await (await agent.session()).attach(old)
  await call.write(Uint8Array.of(1, 2, 3))
  call.post('eof', {})
  const items: unknown[] = []
  for await (const item of call.received()) items.push(item)
  expect(items.length).toBe(3)
})
