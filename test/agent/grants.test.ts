/** Grants at the agent, over real sessions: who gets in, what ends a session, and what outlives a restart. SPEC §2.7, §8.1, §9.6 */
import { mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { type Admission, Grants } from '../../agent/grants.ts'
import { Identity } from '../../client/identity.ts'
import { nobleSuite as suite } from '../../protocol/channel/noble-suite.ts'
import { driveLock } from '../../protocol/commands/drives.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import { info } from '../../protocol/commands/info.ts'
import { terminal } from '../../protocol/commands/terminal.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { type Grant, signGrant } from '../../protocol/control/grant.ts'
import { PERMISSIONS, type Permission } from '../../protocol/control/roles.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import type { MortarError } from '../../protocol/core/errors.ts'
import { facts, type PairOptions, sessionPair, wallClock } from '../support/session-pair.ts'

const owner = Identity.create(suite)
const grantee = Identity.create(suite)
const third = Identity.create(suite)
const drive = '44444444-4444-4444-8444-444444444444'
const other = '55555555-5555-4555-8555-555555555555'
const seconds = () => Math.floor(Date.now() / 1000)

let folder: string
let withdrawn: string[]
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-grants-'))
  withdrawn = []
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const agent = (features: readonly Permission[] = PERMISSIONS, clock = wallClock) =>
  new Grants({
    stateDirectory: folder,
    ticket: { vm: facts.vm, owner: owner.signKey },
    config: { features, defaultUser: 'researcher' },
    clock,
    onWithdrawn: name => withdrawn.push(name),
  })

const sign = (more: Partial<Grant> = {}, by = owner) =>
  by.withSigningSeed(seed =>
    signGrant(
      {
        version: 1,
        vm: facts.vm,
        grantee: grantee.signKey,
        granteeDh: grantee.keys.publicKey,
        role: 'user',
        permissions: ['info', 'exec', 'drives'],
        drives: [drive],
        targets: [],
        expires: seconds() + 600,
        serial: 10,
        ...more,
      },
      seed,
    ),
  )

/** A session of the grantee at the agent; `refused` are the codes that stay in the agent's log. */
async function connect(grants: Grants, grant: Uint8Array | undefined, more: PairOptions = {}) {
  const ending = new AbortController()
  const refused: string[] = []
  let admission: Admission | undefined
  const opening = sessionPair({
    clientKeys: grantee.keys,
    clientContact: { kind: 'known' },
    ownerIs: owner.keys.publicKey,
    ...(grant && { grant }),
    signal: ending.signal,
    admit(caller) {
      try {
        admission = grants.admit(caller, error => ending.abort(error))
        return admission.rights
      } catch (thrown) {
        refused.push((thrown as MortarError).code)
        throw thrown
      }
    },
    handlers: {
      async exec(call) {
        call.accept({})
        await new Promise(resolve => call.signal.addEventListener('abort', resolve, { once: true }))
      },
      async 'drive-lock'(call) {
        call.accept({})
      },
      async 'grant-revoke'(call) {
        grants.revoke(call.params.grantee, call.params.serial)
        call.accept({})
      },
    },
    ...more,
  })
  return opening.then(
    pair => ({ ...pair, refused, leave: () => admission?.leave() }),
    (error: MortarError) => ({ error, refused, session: undefined, leave: () => {} }),
  )
}

async function mustConnect(...args: Parameters<typeof connect>) {
  const pair = await connect(...args)
  if (!pair.session) throw pair.error
  return pair
}

/** Refused without a reason: the caller knows no more than what it showed that was not taken. */
async function expectRefused(grants: Grants, grant: Uint8Array | undefined, code?: string, more?: PairOptions) {
  const { session, error, refused } = (await connect(grants, grant, more)) as {
    session: undefined
    error: MortarError
    refused: string[]
  }
  expect(session).toBeUndefined()
  const shown = more?.clientContact ? 'agent-key-mismatch' : grant ? 'grant-invalid' : 'owner-mismatch'
  expect(error.code).toBe(shown)
  expect(refused).toEqual(code === undefined ? [] : [code])
}

describe('a grantee', () => {
  test('may do what the grant says and nothing else', async () => {
    const { session } = await mustConnect(agent(), sign())
    expect([...session.commands].sort()).toEqual(
      ['drive-format', 'drive-list', 'drive-lock', 'drive-unlock', 'exec', 'info'].sort(),
    )
    const running = await session.open(exec, { argv: ['true'] })
    running.reset('going-away')
    const denied = { code: 'denied' }
    await expect(session.open(terminal, { cols: 80, rows: 24 })).rejects.toMatchObject(denied)
    await expect(session.open(exec, { argv: ['true'], user: 'root' })).rejects.toMatchObject(denied)
    await expect(session.open(grantRevoke, { grantee: third.signKey, serial: 1 })).rejects.toMatchObject(denied)
    await session.open(driveLock, { drive, serial: driveSerial(drive) })
    await expect(session.open(driveLock, { drive: other, serial: driveSerial(other) })).rejects.toMatchObject(denied)
    await expect(session.open(driveLock, { drive, serial: driveSerial(other) })).rejects.toMatchObject(denied)
    session.close()
  })

  test('is denied what the brick switched off', async () => {
    const { session } = await mustConnect(agent(['exec', 'users']), sign())
    expect(session.commands).toEqual(['exec'])
    await expect(session.open(info, {})).rejects.toMatchObject({ code: 'denied' })
    session.close()
  })

  test('gets in nowhere if nobody could be shut out again', async () => {
    await expectRefused(agent(['info', 'exec']), sign(), 'grant-invalid')
  })

  const tampered = sign()
  tampered[100] = (tampered[100] as number) ^ 1
  test.each([
    ['signed by the grantee', () => sign({}, grantee), 'grant-invalid'],
    ['for another VM', () => sign({ vm: facts.session }), 'grant-invalid'],
    ['for the key of another', () => sign({ granteeDh: third.keys.publicKey }), 'grant-invalid'],
    ['that expired', () => sign({ expires: seconds() }), 'grant-expired'],
    ['that was changed', () => tampered, 'grant-invalid'],
    ['that is none', () => new Uint8Array(40), 'grant-invalid'],
    ['that is empty', () => new Uint8Array(0), 'grant-invalid'],
  ])('with a grant %s is refused, and not told why', async (_, grant, code) => {
    await expectRefused(agent(), grant(), code)
  })

  test('without a grant is refused, and so is an owner who shows one', async () => {
    await expectRefused(agent(), undefined)
    await expectRefused(agent(), sign({ granteeDh: owner.keys.publicKey }), undefined, { clientKeys: owner.keys })
  })

  test('makes no first contact, even with the launch secret', async () => {
    const clientContact = { kind: 'first', launchSecret: new Uint8Array(32).fill(9) } as const
    await expectRefused(agent(), sign(), undefined, { clientContact })
  })

  test('with another’s grant is refused', async () => {
    await expectRefused(agent(), sign(), 'grant-invalid', { clientKeys: third.keys })
  })

  test('opens eight sessions at a time and no more', async () => {
    const grants = agent()
    const open = []
    for (let i = 0; i < 8; i++) open.push(await mustConnect(grants, sign()))
    await expectRefused(grants, sign(), 'limit-exceeded')
    open[0]?.leave()
    open.push(await mustConnect(grants, sign()))
    for (const { session } of open) session.close()
  })
})

describe('serials', () => {
  test('a lower one is refused once a higher one was taken, and ends the sessions under it', async () => {
    const grants = agent()
    const old = await mustConnect(grants, sign({ serial: 10 }))
    const running = await old.session.open(exec, { argv: ['sleep'] })
    const again = await mustConnect(grants, sign({ serial: 10 }))
    expect(withdrawn).toHaveLength(1)
    await mustConnect(grants, sign({ serial: 11, permissions: ['info'] }))
    expect(await old.session.closed).toMatchObject({ code: 'grant-revoked' })
    expect(await again.session.closed).toMatchObject({ code: 'grant-revoked' })
    await expect(running.received().next()).rejects.toMatchObject({ code: 'grant-revoked' })
    expect(withdrawn).toHaveLength(2)
    await expectRefused(grants, sign({ serial: 10 }), 'grant-revoked')
  })

  test('are remembered over a restart of the agent', async () => {
    await mustConnect(agent(), sign({ serial: 20 }))
    await expectRefused(agent(), sign({ serial: 19 }), 'grant-revoked')
    await mustConnect(agent(), sign({ serial: 20 }))
    agent().revoke(grantee.signKey, 20)
    await expectRefused(agent(), sign({ serial: 20 }), 'grant-revoked')
    await mustConnect(agent(), sign({ serial: 21 }))
  })

  test('of one grantee say nothing of another’s', async () => {
    const grants = agent()
    grants.revoke(third.signKey, 1_000)
    await mustConnect(grants, sign({ serial: 1 }))
  })

  test('never go back: a revocation below the highest serial changes nothing', async () => {
    const grants = agent()
    grants.revoke(grantee.signKey, 50)
    grants.revoke(grantee.signKey, 40)
    await expectRefused(grants, sign({ serial: 50 }), 'grant-revoked')
  })

  test.each([
    ['', 'empty'],
    ['{"version":1}', 'without serials'],
    ['{"version":1,"least":{"x":1}}', 'with a key that is none'],
    [`{"version":1,"least":{"${encodeBase64url(grantee.signKey)}":-1}}`, 'with a serial that is none'],
  ])('a file that is %s (%s) stops the agent, rather than bring old grants back', content => {
    writeFileSync(join(folder, 'grants.json'), content)
    expect(() => agent()).toThrow(expect.objectContaining({ code: 'internal' }))
  })

  test('are kept of a thousand grantees; one more is not let in, and those who are known still are', async () => {
    const knownBefore = (count: number) => {
      const least: Record<string, number> = {}
      for (let i = 0; i < count; i++) least[encodeBase64url(new Uint8Array(32).fill(i & 255).fill(i >> 8, 0, 2))] = 1
      expect(Object.keys(least)).toHaveLength(count)
      writeFileSync(join(folder, 'grants.json'), JSON.stringify({ version: 1, least }))
    }
    knownBefore(999)
    const grants = agent()
    await mustConnect(grants, sign())
    const another = sign({ grantee: third.signKey, granteeDh: third.keys.publicKey })
    await expectRefused(grants, another, 'limit-exceeded', { clientKeys: third.keys })
    await mustConnect(grants, sign({ serial: 11 }))
    knownBefore(1_000)
    await expectRefused(agent(), sign(), 'limit-exceeded')
  })

  test('that cannot be kept let nobody in, until they can be', async () => {
    const grants = agent()
    rmSync(folder, { recursive: true })
    expect(() => grants.admit({ kind: 'grantee', dh: grantee.keys.publicKey, grant: sign() }, () => {})).toThrow()
    expect(() => grants.admit({ kind: 'grantee', dh: grantee.keys.publicKey, grant: sign() }, () => {})).toThrow()
    folder = mkdtempSync(join(tmpdir(), 'mortar-grants-'))
  })
})

describe('revocation', () => {
  test('by the owner ends the open sessions of that grantee alone, and is on disk before it is answered', async () => {
    const grants = agent()
    const theirs = await mustConnect(grants, sign())
    const running = await theirs.session.open(exec, { argv: ['sleep'] })
    const another = { grantee: third.signKey, granteeDh: third.keys.publicKey }
    const unharmed = await mustConnect(grants, sign(another), { clientKeys: third.keys })
    const ours = await mustConnect(grants, undefined, { clientKeys: owner.keys })
    expect(ours.session.commands).toContain('grant-revoke')
    await ours.session.open(grantRevoke, { grantee: grantee.signKey, serial: 10 })
    const kept = JSON.parse(readFileSync(join(folder, 'grants.json'), 'utf8'))
    expect(kept.least[encodeBase64url(grantee.signKey)]).toBe(11)
    expect(await theirs.session.closed).toMatchObject({ code: 'grant-revoked' })
    await expect(running.received().next()).rejects.toMatchObject({ code: 'grant-revoked' })
    await expectRefused(grants, sign(), 'grant-revoked')
    const alive = await unharmed.session.open(exec, { argv: ['true'] })
    alive.reset('going-away')
    unharmed.session.close()
    ours.session.close()
  })

  test('that could not be kept is tried again when it is asked for again, and not answered before', () => {
    const grants = agent()
    rmSync(folder, { recursive: true })
    expect(() => grants.revoke(grantee.signKey, 10)).toThrow()
    expect(() => grants.revoke(grantee.signKey, 10)).toThrow()
    mkdirSync(folder)
    grants.revoke(grantee.signKey, 10)
    const kept = JSON.parse(readFileSync(join(folder, 'grants.json'), 'utf8'))
    expect(kept.least[encodeBase64url(grantee.signKey)]).toBe(11)
  })

  test('an expiry ends an open session', async () => {
    const late: (() => void)[] = []
    const clock = {
      now: wallClock.now,
      after(ms: number, callback: () => void) {
        if (ms <= 600_000) late.push(callback)
        return () => {}
      },
    }
    const { session } = await mustConnect(agent(PERMISSIONS, clock), sign())
    expect(late).toHaveLength(1)
    late[0]?.()
    expect(await session.closed).toMatchObject({ code: 'grant-expired' })
  })
})
