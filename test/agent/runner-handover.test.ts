/** A runner that goes from one agent to the next: whatever is under way, it breaks no rule and loses nothing. SPEC §8.2 */
import { mkdtempSync, rmSync } from 'node:fs'
import { connect } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { DirectLauncher } from '../../agent/guest/direct-launcher.ts'
import { PlaceBook } from '../../agent/guest/place.ts'
import { RunnerLink } from '../../agent/guest/runner-link.ts'
import { encodeMessage, type Frame, FrameReader } from '../../agent/runner/frames.ts'
import { RUNNER_VERSION, type Start } from '../../agent/runner/messages.ts'
import { endRunners, newRunners } from '../support/runners.ts'

const { username: name, uid, gid } = userInfo()
const user = { name, uid, gid, groups: [gid], home: '/', shell: '/bin/sh' }

let folder: string
let path: string
beforeEach(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-handover-'))
  const places = new PlaceBook(folder)
  const place = { grantee: null, user }
  places.write(place)
  path = await new DirectLauncher(places).start(place)
})
afterEach(async () => {
  await endRunners(folder)
  rmSync(folder, { recursive: true, force: true })
})

const kept = (script: string): Start => ({
  argv: ['/bin/sh', '-c', script],
  env: {},
  cwd: null,
  home: '/',
  size: null,
  memo: 'memo',
  whenFull: 'wait',
  spoolBytes: 65_536,
  detached: false,
})

/** Connects and says nothing yet. */
async function silentAgent() {
  const socket = connect(path)
  const frames: Frame[] = []
  const reader = new FrameReader()
  socket.on('data', chunk => void frames.push(...reader.push(chunk)))
  await new Promise(resolve => socket.once('connect', resolve))
  return { socket, said: () => frames.map(frame => (frame.type === 'data' ? frame : JSON.parse(frame.json))) }
}

/** Connects as the next agent, and resolves with what was left once the runner works for this one without a breach. */
async function nextAgent() {
  const link = await RunnerLink.open(path)
  const left = link.takeLeft()
  await (await link.start(kept('exit'))).over
  return { link, left }
}

test('a program that ends before the next agent has said hello is told by the answer to hello alone', async () => {
  const first = await RunnerLink.open(path)
  await first.start(kept('read line'))
  const program = await first.start(kept('sleep 0.3; exit 3'))
  const next = await silentAgent()
  await delay(800)
  expect(next.said()).toEqual([])
  next.socket.write(encodeMessage({ type: 'hello', version: RUNNER_VERSION }))
  await expect.poll(() => next.said().map(({ type }) => type)).toEqual(['hello', 'held', 'held'])
  expect(next.said()[2]).toMatchObject({ program: program.id, over: true, end: 1 })
  next.socket.destroy()
})

test('a program that is being started when the next agent comes is held, and what it says is for the one who asked', async () => {
  const first = await RunnerLink.open(path)
  const starting = Array.from({ length: 20 }, (_, i) => first.start(kept(`exit ${i}`)).catch(() => undefined))
  starting.push(first.start({ ...kept(''), argv: ['/nowhere'] }).catch(() => undefined))
  await delay(5)
  for (let agents = 0; agents < 5; agents++) await RunnerLink.open(path)
  const { link, left } = await nextAgent()
  for (const { program } of left) await expect(program.over).resolves.toBeUndefined()
  first.close()
  await Promise.all(starting)
  link.close()
})

test('input that waits for its program when the next agent comes is taken once, and told to the one who sent it', async () => {
  const first = await RunnerLink.open(path)
  const program = await first.start(kept('sleep 0.6; wc -c'))
  // more than a pipe takes, and all of it sent before any is taken
  const pieces = Array.from({ length: 5 }, () => new Uint8Array(60_000))
  const inputs = [...pieces.map(bytes => ({ type: 'data', bytes }) as const), { type: 'eof' } as const]
  for (const input of inputs) program.input(input).catch(() => undefined)
  await delay(100)
  const { link, left } = await nextAgent()
  await expect(left[0]?.program.over).resolves.toBeUndefined()
  expect(link.isLost).toBe(false)
  const reader = await left[0]?.program.open(0)
  const piece = await reader?.next()
  expect(piece?.type === 'data' && Buffer.from(piece.bytes).toString()).toBe('300000\n')
  link.close()
})

test('the end of a program that was forgotten is not told as the end of a later one of its number', async () => {
  const { socket, said } = await silentAgent()
  const tell = (message: object) => void socket.write(encodeMessage(message))
  tell({ type: 'hello', version: RUNNER_VERSION })
  await expect.poll(said).toHaveLength(1)
  tell({ type: 'start', program: 1, ...kept('sleep 0.3') })
  await expect.poll(() => said().at(-1)).toEqual({ type: 'started', program: 1 })
  tell({ type: 'forget', program: 1 })
  tell({ type: 'start', program: 1, ...kept('read line') })
  await delay(800)
  expect(said().slice(1)).toEqual(Array.from({ length: 2 }, () => ({ type: 'started', program: 1 })))
  socket.destroy()
})

test('everybody who waits for the runner that follows a lost one gets it', async () => {
  const runners = newRunners(join(folder, 'others'))
  try {
    const run = async () => {
      const program = await runners.start({ argv: ['sh', '-c', 'echo $PPID'], user, grantee: null, env: {} })
      const piece = await (await program.open(0)).next()
      await program.over
      return piece?.type === 'data' ? Number(Buffer.from(piece.bytes)) : 0
    }
    const runner = await run()
    // what has to be ended first
    const left = await runners.start({ argv: ['sleep', '60'], user, grantee: null, env: {} })
    left.over.catch(() => undefined)
    process.kill(runner, 'SIGKILL')
    const trying: Promise<unknown>[] = []
    for (let tries = 0; tries < 20; tries++, await delay(2)) trying.push(run().catch(({ code }) => code))
    const later = await Promise.all(trying)
    // one that reached the lost runner is told so
    const found = new Set(later.filter(result => result !== 'runner-lost'))
    expect(found.size).toBeLessThanOrEqual(1)
    expect(found.add(await run())).not.toContain(runner)
    expect(found.size).toBe(1)
  } finally {
    await runners.close()
    await endRunners(join(folder, 'others'))
  }
}, 20_000)
