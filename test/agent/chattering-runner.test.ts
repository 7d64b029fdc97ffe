/** A runner that was taken over and talks without end: what nobody asked for loses it, and the rest leaves others their turns. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, expect, test } from 'vitest'
import { RunnerLink } from '../../agent/guest/runner-link.ts'
import type { RunnerProgram } from '../../agent/guest/runner-program.ts'
import { encodeData, encodeMessage } from '../../agent/runner/frames.ts'
import { CREDIT_BYTES, PIECE_BYTES, PIECE_COST, PROGRAMS, type ToRunner } from '../../agent/runner/messages.ts'
import { endRunners, newRunners } from '../support/runners.ts'
import { FakeRunner, fromOf, start, started } from './fake-runner.ts'

let runner: FakeRunner
afterEach(() => runner?.dispose())

/** Starts what it is told to, and answers reads unless told not to. */
const obliging =
  ({ answersReads = true } = {}) =>
  (message: ToRunner, socket: { write(bytes: Uint8Array): void }) => {
    if (message.type === 'start') socket.write(started(message.program))
    if (message.type === 'read' && answersReads) socket.write(fromOf(message.program, message.from))
  }

const data = (program: number, position: number, length: number) =>
  encodeData({ program, position, lane: 0, bytes: new Uint8Array(length) })

/** Says something again and again, as fast as it is taken; resolves once the link was lost or so many were said. */
async function flood(link: RunnerLink, most: number, next: (count: number) => Uint8Array): Promise<void> {
  for (let count = 0; count < most && !link.isLost; ) {
    const block = Buffer.concat(Array.from({ length: 1_000 }, () => next(count++)))
    if (!runner.socket?.write(block)) {
      await Promise.race([new Promise(resolve => runner.socket?.once('drain', resolve)), link.lost])
    }
  }
  // what is under way
  await Promise.race([link.lost, new Promise(resolve => setTimeout(resolve, 200))])
}

async function begun(link: RunnerLink): Promise<RunnerProgram> {
  const program = await link.start(start)
  await program.open(0)
  return program
}

test.each<[string, Uint8Array]>([
  ['data', data(0, 0, 1)],
  ['messages', encodeMessage({ type: 'over', program: 0 })],
])('%s of program 0, which there never is, lose it at once', async (_, said) => {
  runner = new FakeRunner(obliging())
  const link = await RunnerLink.open(runner.path)
  await link.start(start)
  runner.socket?.write(said)
  await expect.poll(() => link.isLost).toBe(true)
})

test('a held program 0 is none', async () => {
  runner = new FakeRunner()
  const held = { type: 'held', program: 0, memo: '', start: 0, end: 0, taken: 0, over: false }
  runner.greeting = Buffer.concat([encodeMessage({ type: 'hello', version: 1, programs: 1 }), encodeMessage(held)])
  await expect(RunnerLink.open(runner.path)).rejects.toMatchObject({ code: 'runner-lost' })
})

test.each<[string, (id: number) => (count: number) => Uint8Array]>([
  ['data', id => () => data(id, 0, 1)],
  ['exits', id => () => encodeMessage({ type: 'exit', program: id, position: 0, code: 0, signal: null })],
  ['ends', id => () => encodeMessage({ type: 'over', program: id })],
  ['words of taken input', id => count => encodeMessage({ type: 'taken', program: id, position: count })],
  ['starts', id => () => started(id)],
])('%s without end of a program that was forgotten lose it', async (_, next) => {
  runner = new FakeRunner(obliging())
  const link = await RunnerLink.open(runner.path)
  const program = await begun(link)
  program.forget()
  await flood(link, 20_000, next(program.id))
  expect(link.isLost).toBe(true)
})

test.each<[string, (id: number) => () => Uint8Array]>([
  ['data', id => () => data(id, 0, 1)],
  ['exits', id => () => encodeMessage({ type: 'exit', program: id, position: 0, code: 0, signal: null })],
])('%s without end before it says where they begin lose it', async (_, next) => {
  runner = new FakeRunner(obliging({ answersReads: false }))
  const link = await RunnerLink.open(runner.path)
  const program = await link.start(start)
  for (let reads = 0; reads < 3; reads++) program.open(0).catch(() => undefined)
  await flood(link, 20_000, next(program.id))
  expect(link.isLost).toBe(true)
})

test('data without end of a program that nobody reads any more loses it', async () => {
  runner = new FakeRunner(obliging())
  const link = await RunnerLink.open(runner.path)
  const program = await link.start(start)
  const reader = await program.open(0)
  reader.close()
  await flood(link, 20_000, count => data(program.id, count, 1))
  expect(link.isLost).toBe(true)
})

test('input is taken as it was sent: not a byte at a time', async () => {
  runner = new FakeRunner(obliging())
  const link = await RunnerLink.open(runner.path)
  const program = await begun(link)
  program.input({ type: 'data', bytes: new Uint8Array(1_000) }).catch(() => undefined)
  runner.socket?.write(encodeMessage({ type: 'taken', program: program.id, position: 1 }))
  await expect.poll(() => link.isLost).toBe(true)
})

test('what an honest runner has under way when its programs are forgotten is taken', async () => {
  runner = new FakeRunner(obliging())
  const link = await RunnerLink.open(runner.path)
  for (let rounds = 0; rounds < 3; rounds++) {
    const programs = await Promise.all(Array.from({ length: PROGRAMS }, () => begun(link)))
    for (const program of programs) {
      program.input({ type: 'data', bytes: new Uint8Array(9) }).catch(() => undefined)
      program.forget()
    }
    for (const { id } of programs) {
      let credit = CREDIT_BYTES
      for (let position = 0; credit > 0; ) {
        const length = Math.min(credit, PIECE_BYTES)
        runner.socket?.write(data(id, position, length))
        position += length
        credit -= length + PIECE_COST
      }
      for (const message of [
        { type: 'exit', program: id, position: CREDIT_BYTES, code: 0, signal: null },
        { type: 'over', program: id },
        { type: 'taken', program: id, position: 9 },
      ])
        runner.socket?.write(encodeMessage(message))
    }
  }
  // in order: all of that came before
  await begun(link)
  expect(link.isLost).toBe(false)
  link.close()
})

test('what it may say is taken a little at a time: others have their turns meanwhile', async () => {
  runner = new FakeRunner(obliging())
  const link = await RunnerLink.open(runner.path)
  const programs = await Promise.all(Array.from({ length: PROGRAMS }, () => begun(link)))
  const perProgram = Math.floor(CREDIT_BYTES / (1 + PIECE_COST))
  // written while this end cannot read, so that all of it is there at once
  for (const { id } of programs) {
    runner.socket?.write(Buffer.concat(Array.from({ length: perProgram }, (_, position) => data(id, position, 1))))
  }
  let turns = 0
  let most = 0
  let before = 0
  const total = () => programs.reduce((sum, program) => sum + program.end, 0)
  while (total() < perProgram * PROGRAMS && !link.isLost) {
    await new Promise(resolve => setImmediate(resolve))
    turns++
    most = Math.max(most, total() - before)
    before = total()
  }
  expect(link.isLost).toBe(false)
  expect(most).toBeLessThanOrEqual(512)
  expect(turns).toBeGreaterThanOrEqual((perProgram * PROGRAMS) / 512)
  link.close()
})

test('a real runner breaks no rule, though its programs talk without end and are read anew and cut off', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-chatter-'))
  const runners = newRunners(folder)
  const { username: name, uid, gid } = userInfo()
  const user = { name, uid, gid, groups: [gid], home: '/', shell: '/bin/sh' }
  const begin = (script: string) => runners.start({ argv: ['sh', '-c', script], user, grantee: null, env: {} })
  const runnerPid = async () => {
    const program = await begin('echo $PPID')
    const piece = await (await program.open(0)).next()
    program.forget()
    return piece?.type === 'data' ? Buffer.from(piece.bytes).toString() : ''
  }
  try {
    const before = await runnerPid()
    for (let rounds = 0; rounds < 3; rounds++) {
      const programs: RunnerProgram[] = []
      for (let count = 0; count < 10; count++) programs.push(await begin('yes'))
      await Promise.all(
        programs.map(async program => {
          program.input({ type: 'data', bytes: new Uint8Array(200_000) }).catch(() => undefined)
          for (let reads = 0; reads < 5; reads++) await (await program.open(program.end)).next()
          program.open(0).catch(() => undefined)
          program.forget()
        }),
      )
    }
    expect(await runnerPid()).toBe(before)
  } finally {
    await runners.close()
    await endRunners(folder)
    rmSync(folder, { recursive: true, force: true })
  }
}, 60_000)
