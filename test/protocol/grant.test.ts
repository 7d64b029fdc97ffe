/** Grants as statements, and the rights they give: what a receiver refuses, and what each role may do. SPEC §2.7, §8.1 */
import { describe, expect, test } from 'vitest'
import { defineCommand } from '../../protocol/commands/command.ts'
import { driveFormat, driveList, driveLock } from '../../protocol/commands/drives.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { COMMANDS } from '../../protocol/commands/index.ts'
import { ssh } from '../../protocol/commands/ssh.ts'
import { accountOf } from '../../protocol/control/account.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { checkGrantTime, type Grant, openGrant, signGrant } from '../../protocol/control/grant.ts'
import { PERMISSIONS, type Permission, ROLES } from '../../protocol/control/roles.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { object, uint, z } from '../../protocol/core/schema.ts'
import { sealStatement, signingPublicKey } from '../../protocol/core/signing.ts'
import { authorise, grantRights, ownerRights, visibleDrives } from '../../protocol/rights.ts'

const seed = new Uint8Array(32).fill(1)
const owner = signingPublicKey(seed)
const ids = (count: number) =>
  Array.from({ length: count }, (_, i) => `${String(i).padStart(8, '0')}-1111-4111-8111-111111111111`)
const [first = '', second = ''] = ids(2)

const grant = (more: Partial<Grant> = {}): Grant => ({
  version: 1,
  vm: '11111111-1111-4111-8111-111111111111',
  grantee: new Uint8Array(32).fill(2),
  granteeDh: new Uint8Array(32).fill(3),
  role: 'user',
  permissions: ['info', 'exec'],
  drives: [],
  targets: [],
  expires: 2_000,
  serial: 1,
  ...more,
})

describe('a grant', () => {
  test('opens as it was signed', () => {
    for (const more of [{}, { drives: null }, { drives: ids(64) }, { role: 'manager' as const, permissions: [] }]) {
      expect(openGrant(signGrant(grant(more), seed), owner)).toEqual(grant(more))
    }
    const targets = ['localhost:80', '10.0.0.1:65535', '[::1]:22', 'a.example:8443']
    expect(openGrant(signGrant(grant({ targets }), seed), owner).targets).toEqual(targets)
  })

  const bad: [string, object][] = [
    ['of another version', { version: 2 }],
    ['for a VM that is no UUID', { vm: 'first' }],
    ['without a grantee', { grantee: undefined }],
    ['for a short key', { grantee: new Uint8Array(31) }],
    ['for a short key of the channel', { granteeDh: new Uint8Array(33) }],
    ['with the role of an owner', { role: 'owner' }],
    ['with a role that is none', { role: 'root' }],
    ['with a permission that is none', { permissions: ['everything'] }],
    ['with a permission twice', { permissions: ['exec', 'exec'] }],
    ['that lets a user switch off', { permissions: ['power'] }],
    ['that lets a user give grants', { permissions: ['users'] }],
    ['that lets a manager give grants', { role: 'manager', permissions: ['exec', 'users'] }],
    ['for a drive that is no UUID', { drives: ['data'] }],
    ['for a drive twice', { drives: [first, first] }],
    ['for more drives than there may be', { drives: ids(65) }],
    ['with drives left out', { drives: undefined }],
    ['with a target without port', { targets: ['localhost'] }],
    ['with port 0', { targets: ['localhost:0'] }],
    ['with port 65536', { targets: ['localhost:65536'] }],
    ['with a wildcard as target', { targets: ['*:80'] }],
    ['with a target that holds spaces', { targets: ['a b:80'] }],
    ['with a negative expiry', { expires: -1 }],
    ['with a broken expiry', { expires: 1.5 }],
    ['with a serial beyond integers', { serial: 2 ** 60 }],
    ['with a member that nobody knows', { more: 1 }],
  ]
  test.each(bad)('%s is neither signed nor opened', (_, more) => {
    const statement = { ...grant(), ...more }
    for (const [key, value] of Object.entries(statement)) {
      if (value === undefined) delete (statement as Record<string, unknown>)[key]
    }
    expect(() => signGrant(statement as Grant, seed)).toThrow(expect.objectContaining({ code: 'grant-invalid' }))
    let signed: Uint8Array
    try {
      signed = sealStatement('mortar grant v1', statement, seed)
    } catch {
      return
    }
    expect(() => openGrant(signed, owner)).toThrow(expect.objectContaining({ code: 'grant-invalid' }))
  })

  test('of another signer, under another label, or too long is refused', () => {
    const invalid = expect.objectContaining({ code: 'grant-invalid' })
    expect(() => openGrant(signGrant(grant(), new Uint8Array(32).fill(9)), owner)).toThrow(invalid)
    expect(() => openGrant(sealStatement('mortar agent certificate v1', grant(), seed), owner)).toThrow(invalid)
    const long = Array.from({ length: 64 }, (_, i) => `${'a'.repeat(60)}${i}.example:1`)
    expect(() => signGrant(grant({ targets: long }), seed)).toThrow(invalid)
    const signed = sealStatement('mortar grant v1', grant({ targets: long }), seed)
    expect(signed.length).toBeGreaterThan(LIMITS.grantBytes)
    expect(() => openGrant(signed, owner)).toThrow(invalid)
  })

  test('with any one bit flipped is refused', () => {
    const signed = signGrant(grant(), seed)
    for (let bit = 0; bit < signed.length * 8; bit += 5) {
      const changed = signed.slice()
      changed[bit >> 3] = (changed[bit >> 3] as number) ^ (1 << (bit & 7))
      expect(() => openGrant(changed, owner), `bit ${bit}`).toThrow(expect.objectContaining({ code: 'grant-invalid' }))
    }
    for (let length = 0; length < signed.length; length += 7) {
      expect(() => openGrant(signed.subarray(0, length), owner)).toThrow(MortarError)
    }
  })

  test('expires at its second', () => {
    expect(() => checkGrantTime(grant(), 1_999_999)).not.toThrow()
    for (const now of [2_000_000, 3_000_000]) {
      expect(() => checkGrantTime(grant(), now)).toThrow(expect.objectContaining({ code: 'grant-expired' }))
    }
  })
})

describe('rights', () => {
  const denied = expect.objectContaining({ code: 'denied' })
  const rightsOf = (more: Partial<Grant> = {}, features: readonly Permission[] = PERMISSIONS) =>
    grantRights(grant(more), features)
  const argv = { argv: ['true'] }
  const lock = (drive: string, serial = driveSerial(drive)) => ({ drive, serial })

  test('roles are nested, and the owner alone has users', () => {
    expect(ROLES.owner).toEqual(PERMISSIONS)
    expect(PERMISSIONS.filter(permission => !(ROLES.manager as readonly string[]).includes(permission))).toEqual([
      'users',
    ])
    expect(ROLES.manager.filter(permission => !(ROLES.user as readonly string[]).includes(permission))).toEqual([
      'power',
    ])
  })

  test('every command is denied to who was granted nothing, whatever its parameters', () => {
    for (const command of Object.values(COMMANDS)) {
      expect(() => authorise(rightsOf({ permissions: [] }), command, {}), command.name).toThrow(denied)
    }
  })

  test('a command needs its permission in the grant and in the features', () => {
    expect(authorise(rightsOf(), exec, argv)).toEqual(argv)
    expect(() => authorise(rightsOf(), driveList, {})).toThrow(denied)
    expect(() => authorise(rightsOf({}, ['info']), exec, argv)).toThrow(denied)
    expect(() => authorise(ownerRights(['info']), exec, argv)).toThrow(denied)
    expect(authorise(ownerRights(PERMISSIONS), exec, { ...argv, user: 'root' })).toMatchObject({ user: 'root' })
  })

  test('parameters are checked after the permission and before anything they name', () => {
    expect(() => authorise(rightsOf(), exec, { argv: [] })).toThrow(expect.objectContaining({ code: 'bad-request' }))
  })

  test('drives are those listed, by id, and a serial that is another one’s is denied', () => {
    const permissions: Permission[] = ['drives']
    const one = rightsOf({ permissions, drives: [first] })
    expect(authorise(one, driveLock, lock(first))).toEqual(lock(first))
    expect(() => authorise(one, driveLock, lock(second))).toThrow(denied)
    expect(() => authorise(one, driveLock, lock(first, driveSerial(second)))).toThrow(denied)
    expect(() => authorise(rightsOf({ permissions, drives: [] }), driveLock, lock(first))).toThrow(denied)
    expect(authorise(rightsOf({ permissions, drives: null }), driveLock, lock(second))).toEqual(lock(second))
  })

  test('a user acts by the own account only, a manager as any', () => {
    const user = accountOf(grant().grantee).name
    expect(authorise(rightsOf(), exec, { ...argv, user })).toMatchObject({ user })
    for (const another of ['root', accountOf(new Uint8Array(32)).name]) {
      expect(() => authorise(rightsOf(), exec, { ...argv, user: another })).toThrow(denied)
    }
    // SSH leads to the own account, and names none
    const key = { userKey: 'ssh-ed25519 AAAA', validSeconds: 60 }
    expect(authorise(rightsOf({ permissions: ['ssh'] }), ssh, key)).toEqual(key)
    const named = () => authorise(rightsOf({ role: 'manager', permissions: ['ssh'] }), ssh, { ...key, user })
    expect(named).toThrow(expect.objectContaining({ code: 'bad-request' }))
    expect(authorise(rightsOf({ role: 'manager' }), exec, { ...argv, user: 'root' })).toMatchObject({ user: 'root' })
  })
})

describe('what a command declares that its parameters name', () => {
  const denied = expect.objectContaining({ code: 'denied' })
  const made = <const N extends Record<string, unknown>>(params: z.ZodRawShape, names: N) =>
    defineCommand({
      name: 'made-up',
      permission: 'tunnel',
      params: object(params),
      names: names as never,
      ready: object({}),
      toAgent: {},
      toClient: {},
      takesSecret: false,
    })
  const targets = ['localhost:80', '[::1]:22']
  const rights = (more: Partial<Grant> = {}) =>
    grantRights(grant({ permissions: ['tunnel'], targets, ...more }), PERMISSIONS)
  const everything = ownerRights(PERMISSIONS)

  test('a target is one of those granted, and the owner’s is any', () => {
    const tunnel = made({ to: z.string() }, { to: 'target' })
    for (const to of targets) expect(authorise(rights(), tunnel, { to })).toEqual({ to })
    for (const to of ['localhost:81', 'localhost', '::1:22', 'LOCALHOST:80', 'localhost:80 ', '']) {
      expect(() => authorise(rights(), tunnel, { to }), to).toThrow(denied)
      expect(authorise(everything, tunnel, { to })).toEqual({ to })
    }
    expect(() => authorise(rights({ targets: [] }), tunnel, { to: targets[0] })).toThrow(denied)
  })

  test('a host and a port are a target together', () => {
    const tunnel = made({ where: z.string(), number: uint() }, { where: 'host', number: 'port' })
    expect(authorise(rights(), tunnel, { where: 'localhost', number: 80 })).toBeDefined()
    expect(authorise(rights(), tunnel, { where: '::1', number: 22 })).toBeDefined()
    for (const params of [
      { where: 'localhost', number: 22 },
      { where: '::1', number: 80 },
      { where: 'localhost:80', number: 80 },
    ]) {
      expect(() => authorise(rights(), tunnel, params)).toThrow(denied)
      expect(authorise(everything, tunnel, params)).toEqual(params)
    }
    expect(() => authorise(rights(), made({ where: z.string() }, { where: 'host' }), { where: 'localhost' })).toThrow(
      denied,
    )
    expect(() => authorise(rights(), made({ number: uint() }, { number: 'port' }), { number: 80 })).toThrow(denied)
  })

  test('a drive and a user are asked about by the declaration, whatever their parameter is called', () => {
    const copy = made({ from: z.string().optional(), as: z.string().optional() }, { from: 'drive', as: 'user' })
    const one = rights({ drives: [first] })
    expect(authorise(one, copy, { from: first })).toEqual({ from: first })
    expect(() => authorise(one, copy, { from: second })).toThrow(denied)
    expect(() => authorise(one, copy, { from: first, as: 'root' })).toThrow(denied)
    // the own account is meant when none is named; no drive is meant by none
    expect(() => authorise(one, copy, {})).toThrow(denied)
    expect(authorise(everything, copy, { as: 'root' })).toEqual({ as: 'root' })
  })

  test('a serial alone is that of a listed drive', () => {
    const look = made({ serial: z.string() }, { serial: 'serial' })
    const one = rights({ drives: [first] })
    expect(authorise(one, look, { serial: driveSerial(first) })).toBeDefined()
    expect(() => authorise(one, look, { serial: driveSerial(second) })).toThrow(denied)
  })

  test.each(['planet', 'constructor', '', undefined])('what has no rule (%s) is refused, to the owner too', kind => {
    const command = made({ place: z.string() }, { place: kind })
    for (const who of [everything, rights()]) {
      expect(() => authorise(who, command, { place: 'mars' })).toThrow(denied)
    }
  })

  test('a list of drives holds those of the grant alone', () => {
    const all = [first, second].map(id => ({ serial: driveSerial(id) }))
    expect(visibleDrives(everything, all)).toEqual(all)
    expect(visibleDrives(rights({ drives: null }), all)).toEqual(all)
    expect(visibleDrives(rights({ drives: [second] }), all)).toEqual(all.slice(1))
    expect(visibleDrives(rights({ drives: [] }), all)).toEqual([])
  })

  test('formatting names a drive by id and serial', () => {
    const one = rights({ drives: [first], permissions: ['drives'] })
    const params = { drive: first, serial: driveSerial(second), label: 'data', erase: true }
    expect(() => authorise(one, driveFormat, params)).toThrow(denied)
  })
})
