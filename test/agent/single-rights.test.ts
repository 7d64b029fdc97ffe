/** Each right alone, over real sessions: the commands that it opens, and that every other one is denied. SPEC §2.7, §8.1 */
import { expect, test } from 'vitest'
import type { Command } from '../../protocol/commands/command.ts'
import { COMMANDS, type CommandName } from '../../protocol/commands/index.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { PERMISSIONS, type Permission, ROLES } from '../../protocol/control/roles.ts'
import { agent, drive, expectRefused, grantee, mustConnect, sign, third } from './grants-rig.ts'

const onDrive = { drive, serial: driveSerial(drive) }
const headerDigest = new Uint8Array(32)
/** what each command could be asked for by who has its right; nothing where none is listed */
const ASKED: Readonly<Partial<Record<CommandName, object>>> = {
  info: {},
  exec: { argv: ['true'] },
  'exec-list': {},
  terminal: { cols: 80, rows: 24 },
  'drive-format': { ...onDrive, erase: false },
  'drive-unlock': { ...onDrive, headerDigest, mountName: 'data', readOnly: false },
  'drive-lock': onDrive,
  'drive-list': {},
  ssh: { userKey: `ssh-ed25519 ${'A'.repeat(68)}`, validSeconds: 60 },
  'grant-revoke': { grantee: third.signKey },
  'grant-list': {},
}

/** What each right opens. A right that opens nothing at the agent is the broker's, or a word for later. */
const OPENS: Readonly<Record<Permission, readonly string[]>> = {
  info: ['info'],
  exec: ['exec', 'exec-list'],
  terminal: ['terminal'],
  drives: ['drive-format', 'drive-unlock', 'drive-lock', 'drive-list'],
  ssh: ['ssh'],
  'files-up': [],
  'files-down': [],
  tunnel: [],
  stats: [],
  power: [],
  users: ['grant-revoke', 'grant-list'],
}

const granted = PERMISSIONS.filter(permission => permission !== 'users')

test.each(granted)(
  'a grantee with %s alone opens the commands of that right, and is denied every other',
  async right => {
    const role = right === 'power' ? 'manager' : 'user'
    const { session } = await mustConnect(agent(), sign({ role, permissions: [right] }))
    expect([...session.commands].sort()).toEqual([...OPENS[right]].sort())
    for (const [name, command] of Object.entries(COMMANDS) as [CommandName, Command][]) {
      if (OPENS[right].includes(name)) continue
      await expect(session.open(command, ASKED[name] ?? {}), name).rejects.toMatchObject({ code: 'denied' })
    }
    session.close()
  },
)

test('the owner opens every command, and nobody else those that take grants back and list them', async () => {
  expect(Object.values(OPENS).flat().sort()).toEqual(Object.keys(COMMANDS).sort())
  for (const role of ['manager', 'user'] as const) {
    expect(ROLES[role]).not.toContain('users')
    // signed all the same, by an owner whose client is not ours
    expect(() => sign({ role, permissions: ['users'] })).toThrow()
  }
  await expectRefused(agent(), sign({}, grantee), 'grant-invalid')
})

test('a manager may be told to act as any account of the VM, a user as the own one only', async () => {
  const asRoot = { argv: ['true'], user: 'root' }
  const manager = await mustConnect(agent(), sign({ role: 'manager', permissions: ['exec'], serial: 11 }))
  const running = await manager.session.open(COMMANDS.exec, asRoot)
  running.reset('going-away')
  manager.session.close()
  const user = await mustConnect(agent(), sign({ role: 'user', permissions: ['exec'], serial: 12 }))
  await expect(user.session.open(COMMANDS.exec, asRoot)).rejects.toMatchObject({ code: 'denied' })
  user.session.close()
})
