/** Accounts of a VM's people: whose uid is whose, what the system's tables say, and homes. SPEC §2.9 */
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { Accounts, type AccountsOptions } from '../../agent/accounts/accounts.ts'
import { makeHome } from '../../agent/accounts/homes.ts'
import { ALL_DRIVES, accountOf, driveGroupOf } from '../../protocol/control/account.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { needsRoot } from '../support/possible.ts'

const key = (fill: number) => new Uint8Array(32).fill(fill)
const [owner, bob, carl] = [key(1), key(2), key(3)]
const named = (of: Uint8Array) => encodeBase64url(of)
const drive = '44444444-4444-4444-8444-444444444444'
const invalid = expect.objectContaining({ code: 'grant-invalid' })

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-accounts-'))
  mkdirSync(join(folder, 'homes'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const logged: string[] = []
const accounts = (more: Partial<AccountsOptions> = {}) =>
  new Accounts({
    owner,
    known: [],
    tables: join(folder, 'tables'),
    runtime: folder,
    homes: join(folder, 'homes'),
    log: event => void logged.push(event),
    ...more,
  })
const table = (name: string) => readFileSync(join(folder, 'tables', name), 'utf8')
/** Accounts out of four, so that keys with one uid are found at once. */
const few = (of: Uint8Array) => {
  const id = 0x7000_0000 + (accountOf(of).id % 4)
  return { name: `m${id.toString(16)}`, id }
}
/** A key other than the given one with the same uid of those four. */
const forged = (of: Uint8Array) => {
  for (let fill = 100; ; fill++) if (few(key(fill)).id === few(of).id) return key(fill)
}

test('a person has the same number and name in every VM, outside of what the system gives', () => {
  const ids = [owner, bob, carl].map(accountOf)
  expect(new Set(ids.map(({ id }) => id)).size).toBe(3)
  for (const { id, name } of [...ids, driveGroupOf(drive), ALL_DRIVES]) {
    expect(id).toBeGreaterThanOrEqual(1_879_048_192)
    expect(id).toBeLessThanOrEqual(2_147_352_575)
    expect(name).toMatch(/^[a-z][a-z0-9-]{0,31}$/)
  }
})

describe('two keys with one uid', () => {
  test('are never both let in: the owner’s and the first stay, the other is refused', () => {
    const all = accounts({ derive: few })
    expect(() => all.claim({ grantee: forged(owner), drives: null })).toThrow(invalid)
    const first = [bob, carl, key(4), key(5), key(6)].find(of => few(of).id !== few(owner).id) as Uint8Array
    all.enter({ grantee: first, drives: [] })
    expect(() => all.enter({ grantee: forged(first), drives: null })).toThrow(invalid)
    all.enter({ grantee: first, drives: null })
    // nor after the grant of the first was taken back
    all.withdraw(named(first))
    expect(() => all.claim({ grantee: forged(first), drives: null })).toThrow(invalid)
  })

  test('are told apart after a reboot too, by the order in which they came', () => {
    const first = [bob, carl, key(4), key(5), key(6)].find(of => few(of).id !== few(owner).id) as Uint8Array
    const known = [named(first), named(forged(first)), named(forged(owner))]
    const all = accounts({ derive: few, known })
    expect(() => all.claim({ grantee: forged(first), drives: [] })).toThrow(invalid)
    expect(() => all.claim({ grantee: forged(owner), drives: [] })).toThrow(invalid)
    expect(all.claim({ grantee: first, drives: [] }).key).toBe(named(first))
  })
})

describe('the tables of the system', () => {
  test('have everybody who was ever let in, and groups of drives as the grants that stand say', () => {
    const all = accounts({ known: [named(carl)] })
    const { name, id } = accountOf(bob)
    all.enter({ grantee: bob, drives: [drive] })
    expect(table('passwd')).toContain(`${name}:*:${id}:${id}::${join(folder, 'homes', name)}:/bin/bash\n`)
    const drives = driveGroupOf(drive)
    expect(table('group')).toContain(`${drives.name}:*:${drives.id}:${name}\n`)
    expect(table('group')).toContain(`${ALL_DRIVES.name}:*:${ALL_DRIVES.id}:${accountOf(owner).name}\n`)
    all.enter({ grantee: bob, drives: null })
    expect(table('group')).not.toContain(drives.name)
    all.withdraw(named(bob))
    expect(table('group')).toContain(`${ALL_DRIVES.name}:*:${ALL_DRIVES.id}:${accountOf(owner).name}\n`)
    for (const of of [owner, bob, carl]) expect(table('passwd')).toMatch(new RegExp(`^${accountOf(of).name}:`, 'm'))
  })

  test('keep the groups of grantees over a restart of the agent, whose programs go on', () => {
    accounts().enter({ grantee: bob, drives: [drive] })
    const before = table('group')
    expect(
      accounts({ known: [named(bob)] })
        .usersOfDrive(drive)
        .map(person => person.key),
    ).toEqual([named(owner), named(bob)])
    expect(table('group')).toBe(before)
  })

  test('a caller acts by the own account unless another user is named', () => {
    const all = accounts()
    all.enter({ grantee: bob, drives: [drive] })
    expect(all.userOf({ grantee: null }).name).toBe(accountOf(owner).name)
    const mine = all.userOf({ grantee: named(bob) })
    expect(mine).toMatchObject({ uid: accountOf(bob).id, gid: accountOf(bob).id })
    expect(mine.groups).toEqual([accountOf(bob).id, driveGroupOf(drive).id])
    expect(all.userOf({ grantee: null }, accountOf(bob).name)).toEqual(mine)
    expect(all.userOf({ grantee: null }, 'root')).toMatchObject({ uid: 0 })
    expect(() => all.userOf({ grantee: null }, 'no-such-user')).toThrow(
      expect.objectContaining({ code: 'user-unknown' }),
    )
    expect([all.nameOf(accountOf(bob).id), all.nameOf(0)]).toEqual([accountOf(bob).name, '0'])
  })
})

describe.skipIf(needsRoot('to give files away') !== undefined)('a home', () => {
  const account = accountOf(bob)
  const path = () => join(folder, 'homes', account.name)

  test('is the account’s alone and begins with what the system gives a new user', () => {
    mkdirSync(join(folder, 'skel'))
    writeFileSync(join(folder, 'skel/.bashrc'), 'hello\n')
    makeHome(join(folder, 'homes'), account, join(folder, 'skel'))
    const { uid, gid, mode } = lstatSync(path())
    expect([uid, gid, mode & 0o7777]).toEqual([account.id, account.id, 0o700])
    expect(lstatSync(join(path(), '.bashrc')).uid).toBe(account.id)
    expect(readdirSync(join(folder, 'homes'))).toEqual([account.name])
    // and is left as it is from then on
    writeFileSync(join(path(), '.bashrc'), 'mine\n')
    makeHome(join(folder, 'homes'), account, join(folder, 'skel'))
    expect(readFileSync(join(path(), '.bashrc'), 'utf8')).toBe('mine\n')
  })

  test.each([
    ['a link', () => symlinkSync('/etc', path())],
    ['another’s folder', () => mkdirSync(path())],
    ['a file', () => writeFileSync(path(), '')],
  ])('that is %s is neither taken nor followed', (_, make) => {
    make()
    expect(() => makeHome(join(folder, 'homes'), account)).toThrow(/is not the home/)
    expect(existsSync('/etc/.bashrc')).toBe(false)
    // the account is there all the same
    logged.length = 0
    const all = accounts()
    all.enter({ grantee: bob, drives: [] })
    expect(logged).toEqual(['account.home-missing'])
    expect(all.userOf({ grantee: named(bob) }).uid).toBe(account.id)
  })
})
