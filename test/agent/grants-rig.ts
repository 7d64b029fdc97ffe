/** An owner, grantees and the grants of an agent, for tests over real sessions. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect } from 'vitest'
import { type Admission, Grants } from '../../agent/grants/grants.ts'
import type { Guest } from '../../agent/guest/guest.ts'
import { grantList } from '../../agent/handlers/grants.ts'
import { Identity } from '../../client/identity/identity.ts'
import { nobleSuite as suite } from '../../protocol/channel/noble-suite.ts'
import { type Grant, signGrant } from '../../protocol/control/grant.ts'
import { PERMISSIONS, type Permission } from '../../protocol/control/roles.ts'
import type { MortarError } from '../../protocol/core/errors.ts'
import { facts, type PairOptions, sessionPair, wallClock } from '../support/session-pair.ts'

export const owner = Identity.create(suite)
export const grantee = Identity.create(suite)
export const third = Identity.create(suite)
export const drive = '44444444-4444-4444-8444-444444444444'
export const other = '55555555-5555-4555-8555-555555555555'
export const seconds = () => Math.floor(Date.now() / 1000)

/** of the test that runs: the agent's state directory, and who lost rights */
export const state = { folder: '', withdrawn: [] as string[] }
beforeEach(() => {
  state.folder = mkdtempSync(join(tmpdir(), 'mortar-grants-'))
  state.withdrawn = []
})
afterEach(() => rmSync(state.folder, { recursive: true, force: true }))

export const agent = (features: readonly Permission[] = PERMISSIONS, clock = wallClock) =>
  new Grants({
    stateDirectory: state.folder,
    ticket: { vm: facts.vm, owner: owner.signKey },
    config: { features },
    clock,
    onEntering: () => {},
    onEntered: () => {},
    async onWithdrawn(name) {
      state.withdrawn.push(name)
      return true
    },
  })

export const sign = (more: Partial<Grant> = {}, by = owner) =>
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
export async function connect(grants: Grants, grant: Uint8Array | undefined, more: PairOptions = {}) {
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
        call.accept({ locked: true, holders: [] })
      },
      async 'grant-revoke'(call) {
        call.accept(await grants.revoke(call.params.grantee))
      },
      'grant-list': call => grantList(call, { grants } as unknown as Guest),
    },
    ...more,
  })
  return opening.then(
    pair => ({ ...pair, refused, leave: () => admission?.leave() }),
    (error: MortarError) => ({ error, refused, session: undefined, leave: () => {} }),
  )
}

export async function mustConnect(...args: Parameters<typeof connect>) {
  const pair = await connect(...args)
  if (!pair.session) throw pair.error
  return pair
}

/** Refused without a reason: the caller knows no more than what it showed that was not taken. */
export async function expectRefused(grants: Grants, grant: Uint8Array | undefined, code?: string, more?: PairOptions) {
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
