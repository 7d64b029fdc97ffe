/** Grants taken back, and grants that end: what ends with them, at once. SPEC §2.7, §9.6 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { exec } from '../../protocol/commands/exec.ts'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { wallClock } from '../support/session-pair.ts'

import { agent, expectRefused, grantee, mustConnect, owner, seconds, sign, state, third } from './grants-rig.ts'

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
    const kept = JSON.parse(readFileSync(join(state.folder, 'grants.json'), 'utf8'))
    expect(kept.least[encodeBase64url(grantee.signKey)]).toBe(11)
    expect(await theirs.session.closed).toMatchObject({ code: 'grant-revoked' })
    await expect(running.received().next()).rejects.toMatchObject({ code: 'grant-revoked' })
    await expectRefused(grants, sign(), 'grant-revoked')
    const alive = await unharmed.session.open(exec, { argv: ['true'] })
    alive.reset('going-away')
    unharmed.session.close()
    ours.session.close()
  })

  test('that could not be kept is tried again when it is asked for again, and not answered before', async () => {
    const grants = agent()
    rmSync(state.folder, { recursive: true })
    await expect(grants.revoke(grantee.signKey, 10)).rejects.toThrow()
    await expect(grants.revoke(grantee.signKey, 10)).rejects.toThrow()
    mkdirSync(state.folder)
    await grants.revoke(grantee.signKey, 10)
    const kept = JSON.parse(readFileSync(join(state.folder, 'grants.json'), 'utf8'))
    expect(kept.least[encodeBase64url(grantee.signKey)]).toBe(11)
  })

  test.each([
    ['soon', 600],
    ['longer than a session lives', 3 * 86_400],
  ])('a grant that ends %s ends an open session, though the clock is set forward after it began', async (_, left) => {
    const due: (() => void)[] = []
    let setForwardMs = 0
    const clock = {
      now: () => wallClock.now() + setForwardMs,
      after(ms: number, callback: () => void) {
        expect(ms).toBeLessThanOrEqual(LIMITS.clockStepMs)
        due.push(callback)
        return () => {}
      },
    }
    const { session } = await mustConnect(agent(PERMISSIONS, clock), sign({ expires: seconds() + left }))
    due.shift()?.()
    expect(due).toHaveLength(1)
    setForwardMs = left * 1_000
    due.shift()?.()
    expect(await session.closed).toMatchObject({ code: 'grant-expired' })
    expect(due).toEqual([])
  })
})
