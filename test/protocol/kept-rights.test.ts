/** Kept calls at the agent: whose they are, for how long, how many, and which positions are refused. SPEC §8.2 */
import { expect, test } from 'vitest'
import { accepted } from '../../protocol/call.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import { type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { KeptStream } from '../../protocol/kept/kept-stream.ts'
import type { Mux } from '../../protocol/mux/mux.ts'
import type { Stream } from '../../protocol/mux/stream.ts'
import { ownerRights, type Rights } from '../../protocol/rights.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { frame } from '../support/frames.ts'
import { Agent, type Exec, echo, keptCall, newId, params, soon } from '../support/kept-agent.ts'
import { muxEnd } from '../support/mux-end.ts'
import { wallClock } from '../support/session-pair.ts'

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

/** Timers that run when the test says. */
function stillTimers() {
  const time = { ms: 1_000_000 }
  const timers: { ms: number; callback: () => void }[] = []
  const clock = {
    now: () => time.ms,
    after(ms: number, callback: () => void) {
      const timer = { ms, callback }
      timers.push(timer)
      return () => void timers.splice(timers.indexOf(timer), 1)
    },
  }
  return { timers, time, clock }
}

test('nobody comes: the call is given up after its time, or with the grant', async () => {
  for (const endsMs of [null, 1_000_000 + 5_000]) {
    const { timers, time, clock } = stillTimers()
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
    expect(timers.map(({ ms }) => ms)).toEqual([LIMITS.keptMs, ...(endsMs === null ? [] : [5_000])])
    time.ms += timers.at(-1)?.ms ?? 0
    timers.at(-1)?.callback()
    expect([reason, agent.kept.size]).toEqual(['timeout', 0])
    await expect((await agent.session()).attach(kept)).rejects.toMatchObject({ code: 'call-unknown' })
  }
})

test.each([
  ['a call that fails while its client is there waits for it no longer than a dead socket can stay unnoticed', true],
  ['a call that fails while nobody is there waits as long as before', false],
])('%s', async (_, isThere) => {
  const { timers, clock } = stillTimers()
  const failing = Promise.withResolvers<never>()
  const agent = new Agent(
    {
      exec(call) {
        call.accept({})
        return failing.promise
      },
    },
    clock,
  )
  const kept = keptCall(exec)
  await (await agent.session()).attach(kept)
  if (isThere) agent.cutHalf()
  else agent.cut()
  await soon()
  failing.reject(new MortarError('exec-failed'))
  await soon()
  expect(timers.map(({ ms }) => ms)).toEqual([isThere ? LIMITS.keptFailedMs : LIMITS.keptMs])
  await expect((await agent.session()).attach(kept)).rejects.toMatchObject({ code: 'exec-failed' })
  expect(agent.kept.size).toBe(0)
})

test('who comes back and is gone in the same moment leaves one timer, and none once somebody stays', async () => {
  const { timers, clock } = stillTimers()
  const kept = new KeptCalls(clock)
  const rights = ownerRights(['exec'])
  const id = newId()
  /** an agent's end with one stream open */
  const streamOf = async () => {
    const end = muxEnd('agent')
    end.say(frame('open', 1, Uint8Array.of(0)))
    await soon()
    return { ...end, stream: end.streams[0] as Stream }
  }
  const takeUp = (stream: Stream) => {
    const call = kept.find(id, rights)
    call.stream.attach(stream, 0)
    kept.taken(call)
  }
  const first = await streamOf()
  const call = kept.start(id, rights, { command: exec, params })
  call.stream.attach(first.stream, 0)
  call.stream.accept({})
  first.peer.close()
  await soon()
  expect(timers).toHaveLength(1)
  // a full record waits, so that the answer to the attach finds the socket gone
  const second = await streamOf()
  second.mux.sendFrame('data', 1, new Uint8Array(second.mux.room()))
  second.peer.close()
  takeUp(second.stream)
  await soon()
  expect(timers).toHaveLength(1)
  const third = await streamOf()
  takeUp(third.stream)
  expect(timers).toEqual([])
  expect(kept.size).toBe(1)
})

test('an id that was not known begins no call, until its caller has asked for many others', () => {
  const kept = new KeptCalls(wallClock)
  const idOf = (count: number) => new Uint8Array(new BigUint64Array([7n, BigInt(count)]).buffer)
  const rightsOf = (grantee: string | null) => ({ ...ownerRights(['exec']), grantee })
  const find = (count: number, grantee: string | null = null) => {
    return () => kept.find(idOf(count), rightsOf(grantee))
  }
  const begin = (count: number) => () => kept.start(idOf(count), rightsOf(null), { command: exec, params })
  const refusal = (code: ErrorCode) => expect.objectContaining({ code })
  expect(find(0)).toThrow(refusal('call-unknown'))
  // another caller's questions change nothing
  for (let i = 1; i <= LIMITS.spentCalls; i++) expect(find(i, 'another')).toThrow(refusal('call-unknown'))
  expect(begin(0)).toThrow(refusal('bad-request'))
  for (let i = 0; i < LIMITS.spentCalls; i++) expect(find(i)).toThrow(refusal('call-unknown'))
  expect(begin(0)).toThrow(refusal('bad-request'))
  expect(find(LIMITS.spentCalls)).toThrow(refusal('call-unknown'))
  expect(begin(0)().command).toBe(exec)
  expect(begin(1)).toThrow(refusal('bad-request'))
})

test('of the calls that an earlier agent left, those that are done make room for those that run', () => {
  const kept = new KeptCalls(wallClock)
  const restore = (count: number, isDone: boolean) =>
    kept.restore({ id: new Uint8Array(16).fill(count), grantee: null, command: exec, params, received: 0, isDone })
  restore(0, true)
  for (let count = 1; count < LIMITS.keptCallsEach; count++) restore(count, false)
  restore(100, false)
  expect(kept.list(null).filter(({ isDone }) => !isDone)).toHaveLength(LIMITS.keptCallsEach)
  expect(() => restore(101, false)).toThrow(expect.objectContaining({ code: 'limit-exceeded' }))
})

test('no more calls are kept than the limits say; one that is done and that nobody came for makes room', async () => {
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      if (call.params.argv[0] === 'quick') return call.post('exit', { code: 0, signal: null })
      for await (const _item of call.received());
    },
  })
  const begin = async (argv: string, grantee: string | null) => {
    const id = newId()
    const command = { command: exec, params: { argv: [argv] }, id, clock: wallClock, onLost() {}, onOver() {} }
    const kept = new KeptClientCall<Exec>(command)
    await session(grantee).then(s => s.attach(kept))
  }
  const sessions = new Map<string | null, ClientSession>()
  const session = async (grantee: string | null) => {
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
  // grantees share what is not the owner's
  await expect(begin('slow', 'second')).rejects.toMatchObject({ code: 'limit-exceeded' })
  for (let i = 0; i < LIMITS.keptCallsEach; i++) await begin('slow', null)
  expect(agent.kept.size).toBe(LIMITS.keptCalls)
  await expect(begin('slow', null)).rejects.toMatchObject({ code: 'limit-exceeded' })
})

test('room is made among the caller’s own calls: what is done and not fetched stays for the others', async () => {
  const agent = new Agent({
    async exec(call) {
      call.accept({})
      call.post('exit', { code: 0, signal: null })
    },
  })
  const finish = async (grantee: string | null) => {
    const kept = keptCall(exec)
    await (await agent.session({ grantee })).attach(kept)
    agent.cut()
    await soon()
    return kept
  }
  const exitOf = async (kept: KeptClientCall<Exec>, grantee: string | null) => {
    await (await agent.session({ grantee })).attach(kept)
    return (await (await kept.call).received().next()).value
  }
  const results = [await finish(null), await finish('first'), await finish('second')] as const
  for (let i = 2; i < LIMITS.keptCalls - LIMITS.keptCallsEach; i++) await finish('third')
  for (let i = 1; i < LIMITS.keptCallsEach; i++) await finish(null)
  expect(agent.kept.size).toBe(LIMITS.keptCalls)
  // makes room among its own, and who has none is refused
  await finish('third')
  const fourth = (await agent.session({ grantee: 'fourth' })).attach(keptCall(exec))
  await expect(fourth).rejects.toMatchObject({ code: 'limit-exceeded' })
  for (const [i, grantee] of [null, 'first', 'second'].entries())
    expect(await exitOf(results[i]!, grantee)).toMatchObject({ name: 'exit' })
})

test('an id that is in use, and a command that cannot be kept, are refused', async () => {
  const agent = new Agent({ exec: echo })
  const id = newId()
  const begin = (command: Exec) =>
    new KeptClientCall<Exec>({ command, params, id, clock: wallClock, onLost() {}, onOver() {} })
  const session = await agent.session()
  await session.attach(begin(exec))
  await expect(session.attach(begin(exec))).rejects.toMatchObject({ code: 'bad-request' })
  const notKept = { ...exec, name: 'info' } as unknown as Exec
  const other = await agent.session({ permissions: ['info'] })
  await expect(other.attach(begin(notKept))).rejects.toMatchObject({ code: 'bad-request' })
})

test('positions that never were are refused at either end', async () => {
  const agent = new Agent({ exec: echo })
  const session = await agent.session()
  const id = newId()
  const attach = (received: number) => ({
    attachTo: async (mux: Mux) =>
      void (await accepted(mux.openStream(encodeCbor({ attach: id, received })), wallClock)),
  })
  await session.attach(
    new KeptClientCall<Exec>({ command: exec, params, id, clock: wallClock, onLost() {}, onOver() {} }),
  )
  await expect(session.attach(attach(1))).rejects.toMatchObject({ code: 'bad-request' })
  await session.attach(attach(0))
  // an agent that says it has more than was sent, or begins before what was read
  const stream = new KeptStream({ whenFull: 'wait', side: 'client', onLost() {}, onOver() {} })
  const carrier = {} as never
  expect(() => stream.attachAccepted(carrier, { from: 0, received: 1 })).toThrow('position')
  expect(() => stream.attachAccepted(carrier, { from: -1, received: 0 })).toThrow('position')
})
