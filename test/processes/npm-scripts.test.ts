/** The npm scripts as programs: mistakes are told in words, and nothing is installed that nobody asked for. */
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { runProgram } from '../support/program.ts'

const ROOT = new URL('../..', import.meta.url).pathname

test.each([
  ['npm test', ['test/main.ts', '--ring', 'foo'], /there is no ring foo, only unit, rules/],
  ['npm test', ['test/main.ts', '--bogus'], /Unknown option '--bogus'/],
  ['npm run demo', ['test/demo/main.ts', '--bogus'], /Unknown option '--bogus'/],
  ['npm run bench', ['test/bench/main.ts', '--rounds', '0'], /--rounds takes a whole number from 1 to 1,000, not "0"/],
  ['npm run bench', ['test/bench/main.ts', '--rounds', '1.5'], /from 1 to 1,000, not "1.5"/],
  ['npm run bench', ['test/bench/main.ts', '--rounds', 'abc'], /from 1 to 1,000, not "abc"/],
  ['npm run bench', ['test/bench/main.ts', '--rounds', '1001'], /from 1 to 1,000, not "1001"/],
  ['npm run bench', ['test/bench/main.ts', '--only', 'foo'], /no bench is called foo, only channel/],
  ['npm run build', ['images/build-binaries.ts', '--bogus'], /Unknown option '--bogus'/],
  ['npm run brick', ['images/build-brick.ts', '--bogus'], /Unknown option '--bogus'/],
])('%s refuses %j with exit code 2 and the way to its help', async (name, args, why) => {
  const { code, stderr } = await runProgram(process.execPath, args, { cwd: ROOT })
  expect(code).toBe(2)
  expect(stderr).toMatch(why)
  expect(stderr).toContain(`${name}: `)
  expect(stderr).toContain(`→ Run: ${name} -- --help`)
  expect(stderr).not.toMatch(/^ +at /m)
})

test.each([
  ['reorder', /^seed 5f2a\nattack .*\nreorder packets .*\n\n100 attacks, all noticed, 0 bytes after\n$/],
  ['fuzz WebSocket', /^seed 5f2a\n\nparser .*\nWebSocket frames .*\n\n[\d,]+ inputs, all read or refused\n$/],
  ['random sessions', /^seed 5f2a\n\nrandom sessions: .*\n\n1,000 random sessions, all as modelled\n$/],
])('npm run hostile --only %s sums up what ran and nothing else', async (only, says) => {
  const { code, stdout } = await runProgram(
    process.execPath,
    ['test/hostile/main.ts', '--only', only, '--seed', '5f2a'],
    { cwd: ROOT },
  )
  expect(stdout).toMatch(says)
  expect(code).toBe(0)
})

test.each(['test', 'demo', 'brick'])('without a terminal, %s installs no Debian package unless told', async job => {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-setup-test-'))
  try {
    // a machine without any package, whose apt-get would give itself away
    for (const [name, script] of [
      ['dpkg-query', 'exit 1'],
      ['apt-get', 'echo apt-get was run; exit 1'],
      ['sudo', 'exec "$@"'],
    ] as const) {
      writeFileSync(join(folder, name), `#!/bin/sh\n${script}\n`)
      chmodSync(join(folder, name), 0o755)
    }
    const env = { PATH: `${folder}:${process.env.PATH}` }
    const asked = await runProgram('sh', [join(ROOT, 'setup.sh'), job], { env, input: '' })
    expect([asked.code, asked.stdout]).toEqual([2, ''])
    expect(asked.stderr).toMatch(/Nobody to ask: run again with --yes, or install them: apt-get install.* mmdebstrap/)
    const told = await runProgram('sh', [join(ROOT, 'setup.sh'), job, '--yes'], { env, input: '' })
    expect([told.code, told.stderr]).toEqual([1, expect.stringContaining('apt-get was run')])
  } finally {
    rmSync(folder, { recursive: true })
  }
})
