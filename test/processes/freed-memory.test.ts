/** What libraries leave in memory that they give back: every piece is searched for secrets as it is freed. */
import { execFile } from 'node:child_process'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeUnless, missingOf } from '../support/possible.ts'

const CHILD = new URL('freed-memory-child.ts', import.meta.url).pathname
const SOURCE = new URL('../support/freed-memory.c', import.meta.url).pathname
const CONTROL = 'control'
const runFile = promisify(execFile)

describeUnless(missingOf({ cc: 'gcc, libc6-dev' }), 'memory that is given back', () => {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-freed-'))
  const library = join(folder, 'freed-memory.so')
  let marks: Record<string, string>

  /** Names of the secrets that were in memory which was given back. */
  async function freed(what: 'use' | 'leak'): Promise<string[]> {
    const { stderr } = await runFile(process.execPath, ['--expose-gc', CHILD, what], {
      env: { LD_PRELOAD: library, MARKS: Object.values(marks).join('') },
      timeout: 120_000,
    })
    const names = Object.keys(marks)
    return [...new Set([...stderr.matchAll(/^freed (\d+)$/gm)].map(([, number]) => names[Number(number)] ?? ''))]
  }

  beforeAll(async () => {
    await runFile('cc', ['-shared', '-fPIC', '-O1', '-o', library, SOURCE, '-ldl'])
    marks = JSON.parse((await runFile(process.execPath, [CHILD, 'marks'])).stdout)
  })
  afterAll(() => rmSync(folder, { recursive: true, force: true }))

  test('is searched: a copy that OpenSSL leaves is found', async () => {
    expect(await freed('leak')).toEqual([CONTROL])
  })

  test('holds no key, seed or secret on its way through agent, client or launcher', async () => {
    expect(Object.keys(marks).length).toBeGreaterThan(8)
    expect(await freed('use')).toEqual([])
  })
})
