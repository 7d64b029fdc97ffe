/** Taking back what a grantee had where something fails: the rest goes on, and what failed is tried again. SPEC §9.6 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import { Accounts } from '../../agent/accounts/accounts.ts'
import { Grants } from '../../agent/grants/grants.ts'
import { withdraw } from '../../agent/grants/withdrawal.ts'
import { facts } from '../support/session-pair.ts'
import { StillClock } from '../support/still-clock.ts'
import { drive, grantee, owner, sign } from './grants-rig.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-withdrawal-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const full = () => {
  throw Object.assign(new Error('full'), { code: 'ENOSPC' })
}

test.each(['calls', 'groups', 'ssh', 'programs'] as const)('when %s fail, every other step is taken', async failing => {
  const done: string[] = []
  const step = (name: string) => () => (name === failing ? full() : void done.push(name))
  const steps = {
    calls: step('calls'),
    groups: step('groups'),
    ssh: step('ssh'),
    programs: async () => step('programs')(),
  }
  expect(await withdraw(steps, 'somebody', () => {})).toBe(false)
  expect(done).toEqual(['calls', 'groups', 'ssh', 'programs'].filter(name => name !== failing))
})

test('all but the programs is taken back at once, before a new grant gives anything', async () => {
  const done: string[] = []
  const step = (name: string) => () => void done.push(name)
  const ended = Promise.withResolvers<void>()
  const programs = () => ended.promise
  const steps = { calls: step('calls'), groups: step('groups'), ssh: step('ssh'), programs }
  const withdrawing = withdraw(steps, 'somebody', () => {})
  expect(done).toEqual(['calls', 'groups', 'ssh'])
  ended.resolve()
  expect(await withdrawing).toBe(true)
})

test('what failed at the end of a grant is tried again until it works, though nobody is connected', async () => {
  const clock = new StillClock()
  let tries = 0
  const grants = new Grants({
    stateDirectory: folder,
    ticket: { vm: facts.vm, owner: owner.signKey },
    config: { features: ['users', 'exec'] },
    clock,
    onEntering() {},
    onEntered() {},
    onWithdrawn: async () => ++tries === 3,
  })
  const expires = Math.floor(clock.now() / 1000) + 60
  const caller = { kind: 'grantee', dh: grantee.keys.publicKey, grant: sign({ expires }) } as const
  grants.admit(caller, () => {}).leave()
  await clock.pass(200_000, 10_000)
  expect(tries).toBe(3)
})

test('groups that could not be written are written with the next try', () => {
  const tables = join(folder, 'tables')
  const accounts = new Accounts({
    owner: owner.signKey,
    known: [],
    tables,
    runtime: folder,
    homes: join(folder, 'homes'),
    log: () => {},
  })
  accounts.enter({ grantee: grantee.signKey, drives: [drive] })
  const groups = () => readFileSync(join(tables, 'group'), 'utf8')
  const before = groups()
  // a folder stands where the new file would
  mkdirSync(join(tables, 'group.new'))
  const key = Buffer.from(grantee.signKey).toString('base64url')
  expect(() => accounts.withdraw(key)).toThrow(/EISDIR/)
  expect(groups()).toBe(before)
  rmSync(join(tables, 'group.new'), { recursive: true })
  accounts.withdraw(key)
  expect(groups()).not.toBe(before)
})
