/** What the memory of a process still holds of secrets that were used and wiped; see the child for what it does. */
import { execFile } from 'node:child_process'
import { promisify } from 'node:util'
import { beforeAll, expect, test } from 'vitest'
import type { Found } from '../support/memory-scan.ts'
import { describeUnless } from '../support/possible.ts'

const CHILD = new URL('secret-memory-child.ts', import.meta.url).pathname
const reason = process.platform === 'linux' ? undefined : '/proc/self/mem is of Linux'

/** Copies that noble itself leaves of what was used last (SECURITY.md): of all secrets it may be this part. */
const NOBLE_LEAVES = 0.05

const noted = (found: Found, name: string) => found[name]?.noted ?? 0
/** names and numbers of what was found, but what was planted */
const foundIn = (found: Found) =>
  Object.entries(found)
    .filter(([name, counts]) => name !== 'planted' && counts.found > 0)
    .map(([name, counts]) => `${counts.found} of ${counts.noted}: ${name}`)

describeUnless(reason, 'the memory of a process', () => {
  let native: { afterUnlock: Found; atEnd: Found; planted: number }
  let noble: typeof native
  const run = async (suite: string) => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--expose-gc', CHILD, suite], { timeout: 120_000 })
    return JSON.parse(stdout) as typeof native
  }
  beforeAll(async () => {
    native = await run('native')
    noble = await run('noble')
  })

  test('holds every secret that was not wiped, so the search finds what is there', () => {
    for (const { atEnd, planted } of [native, noble]) {
      expect(planted).toBeGreaterThan(0)
      expect(atEnd.planted).toEqual({ noted: planted, found: planted })
    }
  })

  test('holds no key, seed or secret that was wiped, with the cryptography of Node', () => {
    for (const name of ['key of the channel', 'key after a rekey', 'private key', 'result of DH', 'drive key']) {
      expect(noted(native.atEnd, name), name).toBeGreaterThan(20)
    }
    expect(foundIn(native.atEnd)).toEqual([])
  })

  test('holds few of them with noble', () => {
    for (const name of ['identity seed', 'signing seed', 'boot seed', 'launch secret', 'drive key']) {
      expect(noted(noble.atEnd, name), name).toBeGreaterThan(20)
    }
    const all = Object.entries(noble.atEnd).filter(([name]) => name !== 'planted')
    const sum = (of: 'noted' | 'found') => all.reduce((total, [, counts]) => total + counts[of], 0)
    expect(sum('found'), foundIn(noble.atEnd).join()).toBeLessThanOrEqual(NOBLE_LEAVES * sum('noted'))
  })

  test('holds no key from before a drive was unlocked, though the session goes on', () => {
    expect(noted(native.afterUnlock, 'replaced key')).toBeGreaterThan(20)
    expect(foundIn(native.afterUnlock)).toEqual([])
  })
})
