/** Grants taken back, and grants that end: what ends with them, at once. SPEC §2.7, §9.6 */
import { mkdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { knownGrants } from '../../client/grants/known-grants.ts'
import type { Identity } from '../../client/identity/identity.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { wallClock } from '../support/session-pair.ts'

import { agent, expectRefused, grantee, mustConnect, owner, seconds, sign, state, third } from './grants-rig.ts'

const entryOf = (who: Identity) =>
  JSON.parse(readFileSync(join(state.folder, 'grants.json'), 'utf8')).grantees[encodeBase64url(who.signKey)]

describe('what the owner is told of this VM', () => {
  test('is who was let in by which grant, since when, who is here, and who was shut out', async () => {
    const grants = agent()
    await mustConnect(grants, sign({ serial: 12 }))
    const { mark } = await grants.revoke(third.signKey)
    const ours = await mustConnect(grants, undefined, { clientKeys: owner.keys })
    expect(await knownGrants(ours.session)).toEqual([
      {
        grantee: grantee.signKey,
        mark: null,
        taken: {
          serial: 12,
          role: 'user',
          permissions: ['info', 'exec', 'drives'],
          expires: expect.any(Number),
          since: expect.any(Number),
        },
        sessions: 1,
      },
      { grantee: third.signKey, mark, taken: null, sessions: 0 },
    ])
    ours.session.close()
  })

  test('comes whole, of a thousand grantees too', async () => {
    const grants = agent()
    for (let i = 0; i < LIMITS.grantees; i++) await grants.revoke(new Uint8Array(32).fill(i & 255).fill(i >> 8, 0, 2))
    const ours = await mustConnect(grants, undefined, { clientKeys: owner.keys })
    expect(await knownGrants(ours.session)).toHaveLength(LIMITS.grantees)
    ours.session.close()
  })

  test('is told to nobody else', async () => {
    const { session } = await mustConnect(agent(), sign())
    await expect(knownGrants(session)).rejects.toMatchObject({ code: 'denied' })
    session.close()
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
    const { ready } = await ours.session.open(grantRevoke, { grantee: grantee.signKey })
    expect(ready).toEqual({ mark: expect.any(Uint8Array), serial: 10, sessions: 1, programsEnded: true })
    expect(entryOf(grantee)).toEqual({ mark: encodeBase64url(ready.mark), taken: null, ends: null })
    expect(await theirs.session.closed).toMatchObject({ code: 'grant-revoked' })
    await expect(running.received().next()).rejects.toMatchObject({ code: 'grant-revoked' })
    await expectRefused(grants, sign(), 'grant-revoked')
    const alive = await unharmed.session.open(exec, { argv: ['true'] })
    alive.reset('going-away')
    unharmed.session.close()
    ours.session.close()
  })

  test('that could not be kept ends the sessions all the same, is tried again when it is asked for again, and not answered before', async () => {
    const grants = agent()
    const { session } = await mustConnect(grants, sign())
    rmSync(state.folder, { recursive: true })
    await expect(grants.revoke(grantee.signKey)).rejects.toThrow()
    expect(await session.closed).toMatchObject({ code: 'grant-revoked' })
    await expect(grants.revoke(grantee.signKey)).rejects.toThrow()
    mkdirSync(state.folder)
    const { mark } = await grants.revoke(grantee.signKey)
    expect(entryOf(grantee)).toEqual({ mark: encodeBase64url(mark), taken: null, ends: null })
  })

  test.each([
    ['signed later by a clock that is ahead', 10_000, true],
    ['with the highest serial there is', Number.MAX_SAFE_INTEGER, true],
    ['that this VM never saw', 20, false],
  ])('takes back a grant %s', async (_, serial, used) => {
    const grants = agent()
    await mustConnect(grants, sign())
    if (used) await mustConnect(grants, sign({ serial }))
    await grants.revoke(grantee.signKey)
    await expectRefused(grants, sign({ serial }), 'grant-revoked')
    await expectRefused(agent(), sign({ serial }), 'grant-revoked')
  })

  test('lets in who is granted anew after it, whatever the clocks say, and nobody with an earlier mark or a made-up one', async () => {
    const grants = agent()
    await mustConnect(grants, sign({ serial: 1_000 }))
    const first = await grants.revoke(grantee.signKey)
    const between = sign({ serial: 5, after: first.mark })
    await mustConnect(grants, between)
    const second = await grants.revoke(grantee.signKey)
    expect(second).toMatchObject({ serial: 5, sessions: 1 })
    await expectRefused(grants, between, 'grant-revoked')
    await expectRefused(grants, sign({ serial: 2_000, after: new Uint8Array(16) }), 'grant-revoked')
    await mustConnect(agent(), sign({ serial: 1, after: second.mark }))
  })

  test('a grant that names a revocation this VM knows nothing of is refused', async () => {
    await expectRefused(agent(), sign({ after: new Uint8Array(16).fill(1) }), 'grant-revoked')
  })

  test('of a grantee who was never here, when no more fit, is no entry and yet lets nobody in', async () => {
    const grants = agent()
    for (let i = 0; i < LIMITS.grantees; i++) await grants.revoke(new Uint8Array(32).fill(i & 255).fill(i >> 8, 0, 2))
    expect(await grants.revoke(grantee.signKey)).toMatchObject({ serial: null, sessions: 0 })
    expect(grants.known()).toHaveLength(LIMITS.grantees)
    await expectRefused(grants, sign(), 'limit-exceeded')
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
