/** A runner that was stopped or taken over and leaves questions open: calls end all the same, and it is lost. SPEC §8 */
import { afterEach, expect, test, vi } from 'vitest'
import type { Guest } from '../../agent/guest/guest.ts'
import type { Runner } from '../../agent/guest/runner.ts'
import { RunnerLink } from '../../agent/guest/runner-link.ts'
import { exec } from '../../agent/handlers/exec.ts'
import { terminal } from '../../agent/handlers/terminal.ts'
import { PROGRAMS, SILENCE_MS } from '../../agent/runner/messages.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { HeldLog } from '../../protocol/kept/held-log.ts'
import { actingAsMyself } from '../support/acting-as.ts'
import { FakeRunner, fromOf, start, started } from './fake-runner.ts'

let runner: FakeRunner
afterEach(() => {
  vi.useRealTimers()
  runner.dispose()
})

const lost = { code: 'runner-lost' }

/** A call of a session that goes away when the signal says so; nothing of it is sent anywhere. */
function callOf(signal: AbortSignal, grantee: string | null = 'grantee') {
  return {
    params: { argv: ['true'], cols: 80, rows: 24 },
    rights: { grantee },
    signal,
    keptAs: null,
    async *received() {
      await new Promise((_, reject) => signal.addEventListener('abort', () => reject(signal.reason)))
    },
    async follow(log: HeldLog) {
      const reader = await log.open(0)
      while (await reader.next());
    },
  } as never
}

const guestWith = (with_: Runner): Guest => ({ runner: with_, accounts: actingAsMyself }) as Guest

/** Begins so many calls, and says how each ended so far. */
function begin(guest: Guest, calls: number, signal: AbortSignal, handler: typeof exec | typeof terminal = exec) {
  const codes: string[] = []
  for (let count = 0; count < calls; count++) {
    handler(callOf(signal), guest as never).then(
      () => codes.push('done'),
      ({ code }: MortarError) => codes.push(code),
    )
  }
  return codes
}

const count = (codes: readonly string[], code: string) => codes.filter(each => each === code).length

test.each([
  ['exec', exec],
  ['terminal', terminal],
] as const)(
  'a call of %s whose session went away while its program was being started ends, though nobody answers',
  async (_, handler) => {
    runner = new FakeRunner()
    const ending = new AbortController()
    const codes = begin(guestWith(runner.asRunners()), 100, ending.signal, handler)
    await expect.poll(() => runner.of('start')).toHaveLength(100)
    expect(codes).toEqual([])
    ending.abort(new MortarError('going-away'))
    await expect.poll(() => count(codes, 'going-away')).toBe(100)
  },
)

test('a call whose session went away ends, though its output never begins; its program is ended and forgotten', async () => {
  runner = new FakeRunner((message, socket) => {
    if (message.type === 'start') socket.write(started(message.program))
  })
  const ending = new AbortController()
  const codes = begin(guestWith(runner.asRunners()), 100, ending.signal)
  await expect.poll(() => runner.of('read')).toHaveLength(100)
  ending.abort(new MortarError('going-away'))
  await expect.poll(() => count(codes, 'going-away')).toBe(100)
  await expect.poll(() => [runner.of('kill').length, runner.of('forget').length]).toEqual([100, 100])
})

test('what is started when its call is gone is ended and forgotten once it runs', async () => {
  runner = new FakeRunner()
  const ending = new AbortController()
  const codes = begin(guestWith(runner.asRunners()), 1, ending.signal)
  await expect.poll(() => runner.of('start')).toHaveLength(1)
  ending.abort(new MortarError('going-away'))
  await expect.poll(() => codes).toEqual(['going-away'])
  expect(runner.of('kill')).toEqual([])
  runner.socket?.write(started(1))
  await expect.poll(() => runner.told.slice(-2).map(({ type }) => type)).toEqual(['kill', 'forget'])
})

test('calls of sessions that went away are not held by the thousand: beyond what a runner holds they are refused', async () => {
  runner = new FakeRunner()
  const guest = guestWith(runner.asRunners())
  const codes: string[][] = []
  for (let sessions = 0; sessions < 20; sessions++) {
    const ending = new AbortController()
    codes.push(begin(guest, 256, ending.signal))
    await new Promise(resolve => setTimeout(resolve, 10))
    ending.abort(new MortarError('going-away'))
  }
  const all = () => codes.flat()
  await expect.poll(all).toHaveLength(20 * 256)
  expect([count(all(), 'going-away'), count(all(), 'limit-exceeded')]).toEqual([PROGRAMS, 20 * 256 - PROGRAMS])
  expect(runner.of('start')).toHaveLength(PROGRAMS)
  // an owner’s calls have their own
  const ending = new AbortController()
  const call = callOf(ending.signal, null)
  const owners = exec(call, guest as never).catch(({ code }) => code)
  ending.abort(new MortarError('going-away'))
  expect(await owners).toBe('going-away')
})

test('calls that wait for a runner which is not there yet end with their sessions, and are not held by the thousand', async () => {
  runner = new FakeRunner()
  const never = { start: () => new Promise(() => {}) } as unknown as Runner
  const guest = guestWith(never)
  const ending = new AbortController()
  const codes = begin(guest, 1_000, ending.signal)
  await expect.poll(() => count(codes, 'limit-exceeded')).toBe(1_000 - PROGRAMS)
  ending.abort(new MortarError('going-away'))
  await expect.poll(() => count(codes, 'going-away')).toBe(PROGRAMS)
  // those whose sessions are gone wait all the same
  await expect(exec(callOf(ending.signal), guest as never)).rejects.toMatchObject({ code: 'limit-exceeded' })
})

test('a link starts no more programs than a runner holds', async () => {
  runner = new FakeRunner((message, socket) => {
    if (message.type === 'start') socket.write(started(message.program))
  })
  const link = await RunnerLink.open(runner.path)
  const programs = await Promise.all(Array.from({ length: PROGRAMS }, () => link.start(start)))
  await expect(link.start(start)).rejects.toMatchObject({ code: 'limit-exceeded' })
  programs[0]?.forget()
  await link.start(start)
  link.close()
})

/** Lets so much time pass for the link, whose pings are answered meanwhile. */
async function pass(ms: number): Promise<void> {
  for (let passed = 0; passed < ms; passed += 10_000) {
    const pings = runner.of('ping').length
    vi.advanceTimersByTime(10_000)
    await expect.poll(() => runner.of('ping').length).toBeGreaterThan(pings)
    // the answer has come
    await new Promise(resolve => setTimeout(resolve, 20))
  }
}

test.each(['start', 'read'] as const)('a runner that answers pings and leaves a %s unanswered is lost', async asked => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  runner = new FakeRunner((message, socket) => {
    if (message.type === 'start' && asked === 'read') socket.write(started(message.program))
  })
  const link = await RunnerLink.open(runner.path)
  const failed = link
    .start(start)
    .then(program => program.open(0))
    .catch(({ code }) => code)
  await expect.poll(() => runner.of(asked)).toHaveLength(1)
  await pass(SILENCE_MS)
  expect(link.isLost).toBe(false)
  vi.advanceTimersByTime(10_000)
  expect(link.isLost).toBe(true)
  expect(await failed).toBe('runner-lost')
})

test('a program that says nothing for hours is no reason to lose its runner', async () => {
  vi.useFakeTimers({ toFake: ['setInterval', 'clearInterval', 'performance'] })
  runner = new FakeRunner((message, socket) => {
    if (message.type === 'start') socket.write(started(message.program))
    if (message.type === 'read') socket.write(fromOf(message.program, message.from))
  })
  const link = await RunnerLink.open(runner.path)
  const program = await link.start(start)
  await program.open(0)
  await program.open(0)
  await pass(6 * SILENCE_MS)
  expect(link.isLost).toBe(false)
  link.close()
})

test('a runner that reads nothing and answers what it guesses is lost before much waits for it', async () => {
  runner = new FakeRunner()
  const link = await RunnerLink.open(runner.path)
  runner.socket?.pause()
  const large = { ...start, argv: ['x'.repeat(16_384)] }
  for (let program = 1; program <= 4_096 && !link.isLost; program++) {
    const starting = link.start(large)
    runner.socket?.write(started(program))
    await starting.then(
      begun => begun.forget(),
      thrown => expect(thrown).toMatchObject(lost),
    )
  }
  expect(link.isLost).toBe(true)
})
