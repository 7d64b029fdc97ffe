/** Kept calls: what is sent in one session and what in the next, and that nothing is lost or doubled between them. SPEC §8.2 */
import fc from 'fast-check'
import { expect, test } from 'vitest'
import type { Call, ClientCall } from '../../protocol/call.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { terminal } from '../../protocol/commands/terminal.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { ownerRights, type Rights } from '../../protocol/rights.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { sessionPair, wallClock } from '../support/session-pair.ts'

type Exec = typeof exec
type Handler = (call: Call<Exec>) => Promise<void>
const params = { argv: ['x'] }
const soon = (ms = 5) => new Promise(resolve => setTimeout(resolve, ms))

/** An agent that outlives its sessions. */
class Agent {
  readonly kept: KeptCalls
  readonly faults: [string, string][] = []
  readonly #handlers: object
  #cut = (_half: boolean) => {}

  constructor(
    handlers: { exec?: Handler; terminal?: (call: Call<typeof terminal>) => Promise<void> },
    clock = wallClock,
  ) {
    this.#handlers = handlers
    this.kept = new KeptCalls(clock)
  }

  async session(rights: Partial<Rights> = {}): Promise<ClientSession> {
    const cut = Promise.withResolvers<null>()
    let isCut = false
    const lossy = (end: Transport): Transport => ({
      ...end,
      send: packet => end.send(packet),
      // what was under way when the socket broke arrives nowhere
      receive: async () => {
        const packet = await end.receive()
        return isCut ? null : packet
      },
    })
    const deaf = (end: Transport): Transport => ({
      ...end,
      receive: () => Promise.race([end.receive(), cut.promise]),
      close() {},
    })
    const pair = await sessionPair({
      handlers: this.#handlers,
      kept: this.kept,
      admit: () => ({ ...ownerRights(['exec', 'terminal']), ...rights }),
      through: (client, agent) => [deaf(lossy(client)), lossy(agent)],
    })
    this.#cut = half => {
      isCut = true
      cut.resolve(null)
      if (!half) pair.agentEnd.close()
    }
    return pair.session
  }

  /** Breaks the socket of the last session. */
  cut(): void {
    this.#cut(false)
  }

  /** The client notices, the agent does not. */
  cutHalf(): void {
    this.#cut(true)
  }
}

let ids = 0
function keptCall(command: Exec, onLost: () => void = () => {}): KeptClientCall<Exec> {
  const id = new Uint8Array(16).fill(++ids)
  return new KeptClientCall({ command, params, id, clock: wallClock, onLost, onOver() {} })
}

/** Begins a call whose session is renewed whenever it breaks. */
async function lasting(agent: Agent): Promise<ClientCall<Exec>> {
  let session = await agent.session()
  const kept = keptCall(exec, () => void again())
  const again = async () => {
    session = await agent.session()
    // the next cut may have come already, and then onLost comes for nobody
    await session.attach(kept).catch(() => again())
  }
  await session.attach(kept)
  return kept.call
}

const byteAt = (position: number) => (position * 7 + (position >> 8)) % 251

/** Echoes stdin on stdout, and says so on stderr for each piece. */
const echo: Handler = async call => {
  call.accept({})
  let bytes = 0
  for await (const item of call.received()) {
    if (item.type === 'message') {
      if (item.name === 'eof') break
      continue
    }
    bytes += item.bytes.length
    await call.write(item.bytes, 0)
    await call.write(Uint8Array.of(item.bytes.length % 256), 1)
  }
  call.post('exit', { code: bytes % 256, signal: null })
}

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

test('so is its failure', async () => {
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      await soon(20)
      throw new MortarError('exec-failed')
    },
  })
  const kept = keptCall(exec)
  await (await agent.session()).attach(kept)
  agent.cut()
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
  // its OPEN never left
  const unheard = keptCall(exec)
  const second = (await agent.session()).attach(unheard)
  agent.cut()
  await expect(second).rejects.toMatchObject({ code: 'connection-lost' })
  await (await agent.session()).attach(unheard)
  expect(begun).toBe(2)
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

test('a call is its caller’s alone, and needs the rights it began with', async () => {
  const agent = new Agent({ exec: echo })
  const attach = async (kept: KeptClientCall<Exec>, rights: Partial<Rights>) =>
    (await agent.session(rights)).attach(kept)
  const mine = keptCall(exec)
  await attach(mine, { grantee: 'somebody' })
  agent.cut()
  await soon()
  for (const grantee of [null, 'another'])
    await expect(attach(mine, { grantee })).rejects.toMatchObject({ code: 'call-unknown' })
  await expect(attach(mine, { grantee: 'somebody', permissions: ['terminal'] })).rejects.toMatchObject({
    code: 'denied',
  })
  await attach(mine, { grantee: 'somebody' })
  agent.kept.end({ grantee: 'another' }, new MortarError('grant-revoked'))
  expect(agent.kept.size).toBe(1)
  agent.kept.end({ grantee: 'somebody' }, new MortarError('grant-revoked'))
  await expect((await mine.call).received().next()).rejects.toMatchObject({ code: 'grant-revoked' })
})

test('nobody comes: the call is given up after its time, or with the grant', async () => {
  for (const endsMs of [null, 1_000_000 + 5_000]) {
    const timers: { ms: number; callback: () => void }[] = []
    const clock = {
      now: () => 1_000_000,
      after(ms: number, callback: () => void) {
        const timer = { ms, callback }
        timers.push(timer)
        return () => void timers.splice(timers.indexOf(timer), 1)
      },
    }
    let reason = ''
    const agent = new Agent(
      {
        async exec(call) {
          call.signal.addEventListener('abort', () => {
            reason = (call.signal.reason as MortarError).code
          })
          call.accept({})
          for await (const _item of call.received());
        },
      },
      clock,
    )
    const kept = keptCall(exec)
    await (await agent.session({ endsMs })).attach(kept)
    expect(timers).toEqual([])
    agent.cut()
    await soon()
    expect(timers.map(({ ms }) => ms)).toEqual([endsMs === null ? LIMITS.keptMs : 5_000])
    timers[0]?.callback()
    expect([reason, agent.kept.size]).toEqual(['timeout', 0])
    await expect((await agent.session()).attach(kept)).rejects.toMatchObject({ code: 'call-unknown' })
  }
})

test('no more calls are kept than the limits say; one that is done and that nobody came for makes room', async () => {
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      if (call.params.argv[0] === 'quick') return call.post('exit', { code: 0, signal: null })
      for await (const _item of call.received());
    },
  })
  const begin = async (argv: string, grantee: string) => {
    const id = new Uint8Array(16).fill(++ids)
    const command = { command: exec, params: { argv: [argv] }, id, clock: wallClock, onLost() {}, onOver() {} }
    const kept = new KeptClientCall<Exec>(command)
    await session(grantee).then(s => s.attach(kept))
  }
  const sessions = new Map<string, ClientSession>()
  const session = async (grantee: string) => {
    const open = sessions.get(grantee) ?? (await agent.session({ grantee }))
    sessions.set(grantee, open)
    return open
  }
  await begin('quick', 'first')
  agent.cut()
  await soon()
  sessions.clear()
  for (let i = 1; i < LIMITS.keptCallsEach; i++) await begin('slow', 'first')
  expect(agent.kept.size).toBe(LIMITS.keptCallsEach)
  // the one that is done goes
  await begin('slow', 'first')
  await expect(begin('slow', 'first')).rejects.toMatchObject({ code: 'limit-exceeded' })
  for (let i = 0; i < LIMITS.keptCallsEach; i++) await begin('slow', 'second')
  await expect(begin('slow', 'third')).rejects.toMatchObject({ code: 'limit-exceeded' })
  expect(agent.kept.size).toBe(LIMITS.keptCalls)
})

test('an id that is in use, a command that cannot be kept, and positions that never were are refused', async () => {
  const agent = new Agent({ exec: echo })
  const kept = keptCall(exec)
  const session = await agent.session()
  await session.attach(kept)
  const id = new Uint8Array(16).fill(ids)
  const twin = new KeptClientCall<Exec>({ command: exec, params, id, clock: wallClock, onLost() {}, onOver() {} })
  await expect(session.attach(twin)).rejects.toMatchObject({ code: 'bad-request' })
  const notKept = { ...exec, name: 'info', kept: 'wait' } as unknown as Exec
  await expect(session.attach(keptCall(notKept))).rejects.toMatchObject({ code: 'denied' })
})
