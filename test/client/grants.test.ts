/** Grants in the client library: a granted VM is entered only by what its owner signed, and never by accident. SPEC §2.7 */
import { mkdtempSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, describe, expect, test } from 'vitest'
import { createGrant, revokeGrant } from '../../client/grants/grants.ts'
import { compareGrants, type KnownGrant } from '../../client/grants/known-grants.ts'
import { Identity } from '../../client/identity/identity.ts'
import { knownVmsInFile } from '../../client/node/known-vms.ts'
import { connectGrantedVm, connectVm } from '../../client/sessions/connect.ts'
import { knownAs } from '../../client/vms/known-vms.ts'
import { findVm } from '../../client/vms/vm.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { type Grant, openGrant } from '../../protocol/control/grant.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { certificateBy, endScene, grantee, grantFor, id, mark, owner, scene, session } from './granted-scene.ts'
import { refusal, type Script, sampleVm } from './small-broker.ts'

afterEach(endScene)

describe('a granted VM', () => {
  test('opens by grant and certificate of its owner', async () => {
    const { api, host, vm } = await scene()
    const { session, contact } = await connectGrantedVm(api, grantee, host, vm)
    expect([contact, session.commands]).toEqual(['known', ['exec', 'exec-list']])
    session.close()
  })

  test.each([
    ['an older certificate', { certificate: certificateBy(owner, 4) }],
    ['none', { certificate: null }],
  ])('does not open with %s, where this device saw a newer one', async (_lie, lie) => {
    const { api, host, vm, sockets } = await scene({ certificate: certificateBy(owner, 5) })
    const { session } = await connectGrantedVm(api, grantee, host, vm)
    session.close()
    expect(sockets()).toBe(1)
    await expect(connectGrantedVm(api, grantee, host, { ...vm, ...lie })).rejects.toMatchObject({
      code: 'certificate-invalid',
    })
    expect(sockets()).toBe(1)
  })

  test('is remembered by its owner: a broker that makes up another one spoils nothing of it, nor of one’s own', async () => {
    const { api, vm } = await scene()
    const key = encodeBase64url(grantee.signKey)
    const other = { ...vm, owner: encodeBase64url(new Uint8Array(32)) }
    const names = [vm, other, { ...vm, owner: key }].map(each => knownAs(each, key))
    expect([...new Set(names), names[2]]).toEqual([...names, vm.id])
    await api.knownVms.write(names[1] as string, { launch: vm.launch, serial: 1_000 })
    expect(await api.knownVms.read(names[0] as string)).toBeNull()
    const file = knownVmsInFile(join(mkdtempSync(join(tmpdir(), 'mortar-known-')), 'known-vms.json'))
    for (const name of names) await file.write(name, { launch: vm.launch, serial: 7 })
    for (const name of names) expect(await file.read(name)).toEqual({ launch: vm.launch, serial: 7 })
  })

  test('opens only for who asks for it: a session that may carry keys of drives is with one’s own VM', async () => {
    const { api, host, vm, sockets } = await scene()
    await expect(connectVm(api, grantee, host, vm)).rejects.toMatchObject({ code: 'denied' })
    expect(sockets()).toBe(0)
  })

  const stranger = Identity.create(nobleSuite)
  test.each<[string, Partial<Vm>, string]>([
    ['without a grant', { grants: [] }, 'denied'],
    ['by the grant of another person', { grants: [grantFor({ grantee: stranger.signKey })] }, 'denied'],
    ['by a grant for another key', { grants: [grantFor({ granteeDh: stranger.keys.publicKey })] }, 'grant-invalid'],
    ['by a grant for another VM', { grants: [grantFor({ vm: session })] }, 'grant-invalid'],
    ['by a grant that another signed', { grants: [grantFor({}, stranger)] }, 'grant-invalid'],
    ['by a grant that expired', { grants: [grantFor({ expires: 1 })] }, 'grant-expired'],
    ['by a grant that is none', { grants: ['***'] }, 'grant-invalid'],
    ['under another owner', { owner: encodeBase64url(stranger.signKey) }, 'grant-invalid'],
    ['with a certificate that another signed', { certificate: certificateBy(stranger) }, 'certificate-invalid'],
    ['with a certificate that the grantee signed', { certificate: certificateBy(grantee) }, 'certificate-invalid'],
    ['before its owner has connected', { certificate: null }, 'vm-state'],
    ['before it has enrolled', { agent: null, state: 'booting' }, 'vm-state'],
  ])('does not open %s', async (_, more, code) => {
    const { api, host, vm, sockets } = await scene(more)
    await expect(connectGrantedVm(api, grantee, host, vm)).rejects.toMatchObject({ code })
    expect(sockets()).toBe(0)
  })

  test('does not take the name of one’s own', async () => {
    const theirs = sampleVm(owner.signKey)
    const mine = sampleVm(grantee.signKey, { id: session })
    let vms = [theirs, mine]
    const { api } = await scene({}, { 'GET /v1/vms': () => ({ json: { vms } }) })
    expect((await findVm(api, 'first')).id).toBe(session)
    vms = [theirs]
    expect((await findVm(api, 'first')).id).toBe(id)
    vms = [theirs, sampleVm(Identity.create(nobleSuite).signKey, { id: session })]
    await expect(findVm(api, 'first')).rejects.toMatchObject({ code: 'bad-request' })
  })
})

describe('giving and taking back', () => {
  const options = { grantee: grantee.text, role: 'user' as const, drives: [], seconds: 60 }

  test('a grant names the grantee’s keys and a serial above every earlier one', async () => {
    const late = Date.now() + 1_000_000
    const { api, host, put, vm } = await scene({ grants: [grantFor({ serial: late })] }, {}, owner)
    await createGrant(api, owner, host, vm, { ...options, permissions: ['exec'] })
    expect(put[0]).toMatchObject({
      grantee: grantee.signKey,
      granteeDh: grantee.keys.publicKey,
      permissions: ['exec'],
      serial: late + 1,
    })
  })

  test.each(['user', 'manager'] as const)(
    'a %s’s grant that names no rights gives none of the words that are kept for later',
    async role => {
      const { api, host, put, vm } = await scene({}, {}, owner)
      await createGrant(api, owner, host, vm, { ...options, role })
      const more = role === 'manager' ? ['power'] : []
      expect(put[0]?.permissions).toEqual(['info', 'exec', 'terminal', 'drives', 'ssh', ...more])
      expect(put[0]?.targets).toEqual([])
    },
  )

  test.each([
    ['what exceeds the role', { permissions: ['power' as const] }, 'grant-invalid'],
    ['to nobody', { grantee: 'mortar1' }, 'bad-request'],
    ['a drive that is none', { drives: ['everywhere'] }, 'grant-invalid'],
  ])('%s is not granted', async (_, more, code) => {
    const { api, host, put, vm } = await scene({}, {}, owner)
    await expect(createGrant(api, owner, host, vm, { ...options, ...more })).rejects.toMatchObject({ code })
    expect(put).toEqual([])
  })

  test('nobody grants or revokes at another’s VM', async () => {
    const { api, host, vm } = await scene()
    await expect(createGrant(api, grantee, host, vm, options)).rejects.toMatchObject({ code: 'denied' })
    await expect(revokeGrant(api, grantee, host, vm, owner.text)).rejects.toMatchObject({ code: 'denied' })
  })

  const knownAs = (more: Partial<KnownGrant> = {}): KnownGrant => ({
    grantee: grantee.signKey,
    mark: null,
    taken: { serial: 1, role: 'user', permissions: ['exec'], expires: 4_000_000_000, since: 1 },
    sessions: 0,
    ...more,
  })

  test('a grant names the revocation that the VM knows, and a serial above the one that the VM took', async () => {
    const late = Date.now() + 1_000_000
    const taken = { serial: late, role: 'user', permissions: [], expires: 1, since: 1 } as const
    const { api, host, put, vm } = await scene({ grants: [] }, {}, owner, [
      knownAs({ mark, taken: { ...taken, permissions: [] } }),
    ])
    const { notAsked } = await createGrant(api, owner, host, vm, options)
    expect([notAsked, put[0]]).toMatchObject([undefined, { after: mark, serial: late + 1 }])
  })

  test('a grant is signed without the VM’s word when the VM cannot be asked, which is said', async () => {
    const away = { [`POST /v1/vms/${id}/sessions`]: () => refusal('vm-unreachable') }
    const { api, host, put, vm } = await scene({ grants: [grantFor({ after: mark })] }, away, owner)
    const { notAsked } = await createGrant(api, owner, host, vm, options)
    expect([notAsked, put[0]]).toMatchObject([{ code: 'vm-unreachable' }, { after: mark }])
  })

  const route = `DELETE /v1/vms/${id}/grants/${encodeBase64url(grantee.signKey)}`
  test('revoking is done when the VM says so, whatever the broker says', async () => {
    const { api, host, vm, revoked } = await scene({ grants: [] }, { [route]: () => refusal('internal') }, owner)
    expect(await revokeGrant(api, owner, host, vm, grantee.text)).toMatchObject({
      serial: 4,
      sessions: 2,
      programsEnded: true,
      notDeleted: { code: 'internal' },
    })
    expect(revoked).toEqual([encodeBase64url(grantee.signKey)])
  })

  test.each([
    ['says that the VM is stopped', { state: 'stopped' } as const, 'vm-state'],
    ['says that the VM failed', { state: 'failed' } as const, 'vm-state'],
    ['opens no session', {}, 'vm-unreachable'],
  ])(
    'revoking at a broker that %s is told as not known to be done, though the broker deleted the grant',
    async (_, more, why) => {
      const script: Script = {
        [route]: () => ({ json: {} }),
        [`POST /v1/vms/${id}/sessions`]: () => refusal('vm-unreachable'),
      }
      const { api, host, vm, revoked } = await scene(more, script, owner)
      await expect(revokeGrant(api, owner, host, vm, grantee.text)).rejects.toMatchObject({
        code: 'unconfirmed',
        known: { revokedInVm: null, deletedAtBroker: true, why },
        todo: expect.stringContaining('Take the grant as in force'),
      })
      expect(revoked).toEqual([])
    },
  )

  const grantShown = (more: Partial<Grant>) => openGrant(decodeBase64url(grantFor(more)), owner.signKey)
  test.each<[string, Grant[], KnownGrant[], string[]]>([
    ['that the VM does not know', [grantShown({})], [], ['unused']],
    ['that the VM took', [grantShown({})], [knownAs()], ['taken']],
    [
      'of which the VM took a later one',
      [grantShown({})],
      [knownAs({ taken: { ...(knownAs().taken as object), serial: 2 } as KnownGrant['taken'] })],
      ['newer'],
    ],
    ['of which the VM took one after a revocation', [grantShown({})], [knownAs({ mark })], ['newer']],
    ['that the VM took back', [grantShown({})], [knownAs({ mark, taken: null })], ['refused']],
    [
      'that was signed after the revocation',
      [grantShown({ after: mark })],
      [knownAs({ mark, taken: null })],
      ['unused'],
    ],
    ['that the broker hides', [], [knownAs()], ['hidden']],
    [
      'that is over and that nobody shows',
      [],
      [
        knownAs({ taken: { ...(knownAs().taken as object), expires: 1 } as KnownGrant['taken'] }),
        knownAs({ mark, taken: null }),
      ],
      [],
    ],
  ])('of a grant %s the VM’s word and the broker’s are compared', (_, shown, known, standings) => {
    expect(compareGrants(shown, known, 1_000).map(({ standing }) => standing)).toEqual(standings)
  })
})
