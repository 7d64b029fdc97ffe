/** Whose uid is whose on a drive, for people who come while it is mounted. SPEC §2.9 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Person } from '../../agent/accounts/tables.ts'
import { DrivePeople } from '../../agent/guest/drive-people.ts'
import { RECORD_BYTES } from '../../agent/guest/drive-scripts.ts'

const drive = '44444444-4444-4444-8444-444444444444'
const other = '55555555-5555-4555-8555-555555555555'
const serial = '44444444444444448444'
const person = (letter: string, uid: number, drives: string[] | null = [drive]): Person => ({
  key: letter.repeat(43),
  account: { name: `m${uid}`, id: uid },
  drives,
})
const line = ({ key, account }: Person) => `${account.id} ${key}\n`
const refused = expect.objectContaining({ code: 'drive-people' })
const [ada, bob, forger] = [person('A', 1), person('B', 2), person('C', 2)]

let folder: string
const record = () => join(folder, 'data/.mortar/people')
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-drive-people-'))
  mkdirSync(join(folder, 'data/.mortar'), { recursive: true })
  writeFileSync(record(), line(ada))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const people = (mounted = true) =>
  new DrivePeople({
    users: { usersOfDrive: () => [ada, bob], owner: 1 },
    runtime: folder,
    mounts: folder,
    isMounted: () => mounted,
  })
const remembering = (readOnly = false, text = line(ada)) => {
  const known = people()
  known.remember({ serial, drive, readOnly, name: 'data' }, text)
  return known
}

test('somebody new is noted on the drive before being let in, and a key with the same uid is kept out from then on', () => {
  const known = remembering()
  known.require(bob)
  known.require(bob)
  expect(readFileSync(record(), 'utf8')).toBe(line(ada) + line(bob))
  expect(() => known.require(forger)).toThrow(refused)
  expect(readFileSync(record(), 'utf8')).toBe(line(ada) + line(bob))
  // whoever may not use the drive meets nobody's files there
  known.require({ ...forger, drives: [] })
  known.require({ ...forger, drives: [other] })
  expect(() => known.require({ ...forger, drives: null })).toThrow(refused)
})

test('a later run of the agent knows the drives that are still mounted', () => {
  remembering().require(bob)
  expect(() => people().require(forger)).toThrow(refused)
  people(false).require(forger)
})

test('a record that cannot be read keeps those who are new from that drive, and from nothing else', () => {
  remembering()
  writeFileSync(record(), 'nonsense\n')
  const known = people()
  expect(() => known.require(bob)).toThrow(refused)
  known.require({ ...bob, drives: [other] })
})

test('a line that was cut off while it was written let nobody in', () => {
  remembering()
  writeFileSync(record(), `${line(ada)}${line(forger).slice(0, -5)}`)
  people().require(bob)
})

test('a drive that can only be read notes nobody and still keeps a forger out', () => {
  const known = remembering(true, line(ada) + line(bob))
  expect(() => known.require(forger)).toThrow(refused)
  known.require(person('D', 4))
  expect(readFileSync(record(), 'utf8')).toBe(line(ada))
})

test('nobody is let in who cannot be noted, and no link is followed', () => {
  const known = remembering()
  writeFileSync(record(), 'x'.repeat(RECORD_BYTES))
  expect(() => known.require(bob)).toThrow(refused)
  rmSync(record())
  expect(() => known.require(bob)).toThrow(/ENOENT/)
  writeFileSync(join(folder, 'target'), '')
  symlinkSync(join(folder, 'target'), record())
  expect(() => known.require(bob)).toThrow(/ELOOP/)
  expect(readFileSync(join(folder, 'target'), 'utf8')).toBe('')
})

test.each(['1 short\n', 'x\n', `${line(ada)}99999999999 ${'A'.repeat(43)}\n`])(
  'a damaged record is refused: %j',
  text => {
    expect(() => remembering(false, text)).toThrow(refused)
  },
)
