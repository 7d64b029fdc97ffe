/** Grants at the agent, over real sessions: who gets in, and what outlives a restart. SPEC §2.7, §8.1 */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { driveLock } from '../../protocol/commands/drives.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import { info } from '../../protocol/commands/info.ts'
import { terminal } from '../../protocol/commands/terminal.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { facts } from '../support/session-pair.ts'

import {
  agent,
  drive,
  expectRefused,
  grantee,
  mustConnect,
  other,
  owner,
  seconds,
  sign,
  state,
  third,
} from './grants-rig.ts'

describe('a grantee', () => {
  test('may do what the grant says and nothing else', async () => {
    const { session } = await mustConnect(agent(), sign())
    expect([...session.commands].sort()).toEqual(
      ['drive-format', 'drive-list', 'drive-lock', 'drive-unlock', 'exec', 'exec-list', 'info'].sort(),
    )
    const running = await session.open(exec, { argv: ['true'] })
    running.reset('going-away')
    const denied = { code: 'denied' }
    await expect(session.open(terminal, { cols: 80, rows: 24 })).rejects.toMatchObject(denied)
    await expect(session.open(exec, { argv: ['true'], user: 'root' })).rejects.toMatchObject(denied)
    await expect(session.open(grantRevoke, { grantee: third.signKey })).rejects.toMatchObject(denied)
    await session.open(driveLock, { drive, serial: driveSerial(drive) })
    await expect(session.open(driveLock, { drive: other, serial: driveSerial(other) })).rejects.toMatchObject(denied)
    await expect(session.open(driveLock, { drive, serial: driveSerial(other) })).rejects.toMatchObject(denied)
    session.close()
  })

  test('is denied what the brick switched off', async () => {
    const { session } = await mustConnect(agent(['exec', 'users']), sign())
    expect(session.commands).toEqual(['exec', 'exec-list'])
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
})

describe('serials', () => {
  test('a lower one is refused once a higher one was taken, and ends the sessions under it', async () => {
    const grants = agent()
    const old = await mustConnect(grants, sign({ serial: 10 }))
    const running = await old.session.open(exec, { argv: ['sleep'] })
    const again = await mustConnect(grants, sign({ serial: 10 }))
    expect(state.withdrawn).toEqual([])
    await mustConnect(grants, sign({ serial: 11, permissions: ['info'] }))
    expect(await old.session.closed).toMatchObject({ code: 'grant-revoked' })
    expect(await again.session.closed).toMatchObject({ code: 'grant-revoked' })
    await expect(running.received().next()).rejects.toMatchObject({ code: 'grant-revoked' })
    expect(state.withdrawn).toHaveLength(1)
    await expectRefused(grants, sign({ serial: 10 }), 'grant-revoked')
  })

  test('are remembered over a restart of the agent', async () => {
    await mustConnect(agent(), sign({ serial: 20 }))
    await expectRefused(agent(), sign({ serial: 19 }), 'grant-revoked')
    await mustConnect(agent(), sign({ serial: 20 }))
    const { mark } = await agent().revoke(grantee.signKey)
    await expectRefused(agent(), sign({ serial: 20 }), 'grant-revoked')
    await mustConnect(agent(), sign({ serial: 21, after: mark }))
  })

  test('of one grantee say nothing of another’s', async () => {
    const grants = agent()
    await grants.revoke(third.signKey)
    await mustConnect(grants, sign({ serial: 1 }))
  })

  test.each([
    ['', 'empty'],
    ['{"version":2}', 'without grantees'],
    ['{"version":2,"grantees":{"x":{"mark":null,"taken":null,"ends":null}}}', 'with a key that is none'],
    [
      `{"version":2,"grantees":{"${encodeBase64url(grantee.signKey)}":{"mark":"AA","taken":null,"ends":null}}}`,
      'with a mark that is none',
    ],
  ])('a file that is %s (%s) stops the agent, rather than bring old grants back', content => {
    writeFileSync(join(state.folder, 'grants.json'), content)
    expect(() => agent()).toThrow(expect.objectContaining({ code: 'internal' }))
  })

  test('are kept of a thousand grantees; one more is not let in, and those who are known still are', async () => {
    const knownBefore = (count: number) => {
      const grantees: Record<string, { mark: null; taken: null; ends: null }> = {}
      const nobody = { mark: null, taken: null, ends: null }
      for (let i = 0; i < count; i++)
        grantees[encodeBase64url(new Uint8Array(32).fill(i & 255).fill(i >> 8, 0, 2))] = nobody
      expect(Object.keys(grantees)).toHaveLength(count)
      writeFileSync(join(state.folder, 'grants.json'), JSON.stringify({ version: 2, grantees }))
    }
    knownBefore(LIMITS.grantees - 1)
    const grants = agent()
    await mustConnect(grants, sign())
    const another = sign({ grantee: third.signKey, granteeDh: third.keys.publicKey })
    await expectRefused(grants, another, 'limit-exceeded', { clientKeys: third.keys })
    await mustConnect(grants, sign({ serial: 11 }))
    knownBefore(LIMITS.grantees)
    await expectRefused(agent(), sign(), 'limit-exceeded')
  })

  test('that cannot be kept let nobody in, until they can be', async () => {
    const grants = agent()
    rmSync(state.folder, { recursive: true })
    expect(() => grants.admit({ kind: 'grantee', dh: grantee.keys.publicKey, grant: sign() }, () => {})).toThrow()
    expect(() => grants.admit({ kind: 'grantee', dh: grantee.keys.publicKey, grant: sign() }, () => {})).toThrow()
    state.folder = mkdtempSync(join(tmpdir(), 'mortar-grants-'))
  })
})
