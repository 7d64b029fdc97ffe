/** Small files on a file system that is full: the old content stays whole, and the failure is told. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { replaceFile } from '../../agent/process/replace-file.ts'
import { describeUnless, needsRoot } from '../support/possible.ts'

describeUnless(needsRoot('to mount a small file system'), 'a file system that is full', () => {
  let folder: string
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'mortar-full-'))
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', folder])
  })
  afterAll(() => {
    execFileSync('umount', [folder])
    rmSync(folder, { recursive: true, force: true })
  })

  test('a file of which not all fits does not take the place of the one before', () => {
    const path = join(folder, 'state.json')
    replaceFile(path, 'before')
    // some of it fits
    writeFileSync(join(folder, 'fill'), Buffer.alloc(40_000))
    expect(() => replaceFile(path, Buffer.alloc(30_000, 1))).toThrow(/ENOSPC/)
    expect(readFileSync(path, 'utf8')).toBe('before')
    rmSync(join(folder, 'fill'))
    replaceFile(path, Buffer.alloc(30_000, 1))
    expect(readFileSync(path)).toHaveLength(30_000)
  })
})
