/** Many programs at one runner: all of them start, and what they leave running goes on. SPEC §9.2 */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Runners } from '../../agent/guest/runners.ts'
import { endRunners, newRunners } from '../support/runners.ts'

/** more than a runner holds of those that still write */
const PROGRAMS = 150
const { username: name, uid, gid } = userInfo()
const user = { name, uid, gid, groups: [gid], home: '/', shell: '/bin/sh' }

let folder: string
let runners: Runners
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-leftovers-'))
  runners = newRunners(folder)
})
afterEach(async () => {
  await runners.close()
  await endRunners(folder)
  rmSync(folder, { recursive: true, force: true })
})

/** The first that a script says, a process id, once the script is over. */
async function pidFrom(script: string): Promise<number> {
  const program = await runners.start({ argv: ['sh', '-c', script], user, grantee: null, env: {} })
  const piece = await (await program.open(0)).next()
  await program.over
  program.forget()
  return piece?.type === 'data' ? Number(Buffer.from(piece.bytes)) : 0
}

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('what writes on goes on, though many programs that leave nothing behind follow', async () => {
  const left = await pidFrom('(while sleep 0.05; do echo more; done) & echo $!')
  for (let count = 0; count < PROGRAMS; count++) await pidFrom('echo $$')
  await new Promise(resolve => setTimeout(resolve, 300))
  expect(isAlive(left)).toBe(true)
})

test('of too many that write on, the one that was left first meets a closed pipe', async () => {
  const writing = '(while sleep 0.2; do echo more; done) & echo $!'
  const [oldest, second] = [await pidFrom(writing), await pidFrom(writing)]
  for (let count = 0; count < 127; count++) await pidFrom('sleep 600 & echo $!')
  await expect.poll(() => isAlive(oldest)).toBe(false)
  expect(isAlive(second)).toBe(true)
})

test('a hundred programs that are started at once all start', async () => {
  const program = { argv: ['sleep', '0.2'], user, grantee: null, env: {} }
  const codes = Array.from({ length: 100 }, () =>
    runners.start(program).then(
      () => null,
      ({ code }) => code,
    ),
  )
  expect((await Promise.all(codes)).filter(code => code !== null)).toEqual([])
})

test('a runner that may open no more files holds on to the programs that it has', async () => {
  const holding = await runners.start({ argv: ['sleep', '60'], user, grantee: null, env: {} })
  const runner = await pidFrom('echo $PPID')
  execFileSync('prlimit', ['--pid', String(runner), '--nofile=16:'])
  const codes = Array.from({ length: 40 }, () =>
    pidFrom('echo $$').then(
      () => null,
      ({ code }) => code,
    ),
  )
  expect((await Promise.all(codes)).every(code => ['exec-failed', 'limit-exceeded', null].includes(code))).toBe(true)
  execFileSync('prlimit', ['--pid', String(runner), '--nofile=1024:'])
  expect(await pidFrom('echo $PPID')).toBe(runner)
  holding.forget()
})
