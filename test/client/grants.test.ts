/** Grants in the client library: a granted VM is entered only by what its owner signed, and never by accident. SPEC §2.7 */
import { afterEach, describe, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker-api.ts'
import { wallClock } from '../../client/clock.ts'
import { connectGrantedVm, connectVm } from '../../client/connect.ts'
import { createGrant, revokeGrant } from '../../client/grants.ts'
import type { Host } from '../../client/host.ts'
import { Identity } from '../../client/identity.ts'
import { findVm } from '../../client/vm.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { signCertificate } from '../../protocol/control/certificate.ts'
import { type Grant, openGrant, signGrant } from '../../protocol/control/grant.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { grantRights, ownerRights } from '../../protocol/rights.ts'
import { serveSession } from '../../protocol/session.ts'
import { noHandlers } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'
import { refusal, type Script, sampleAgent, sampleVm, smallBroker } from './small-broker.ts'

const owner = Identity.create(nobleSuite)
const grantee = Identity.create(nobleSuite)
const agentKeys = nobleSuite.generateKeyPair()
const agentSign = new Uint8Array(32).fill(8)
const session = '33333333-3333-4333-8333-333333333333'
const id = '11111111-1111-4111-8111-111111111111'

let close = () => {}
afterEach(() => close())

const grantFor = (more: Partial<Grant> = {}, by = owner) =>
  encodeBase64url(
    by.withSigningSeed(seed =>
      signGrant(
        {
          version: 1,
          vm: id,
          grantee: grantee.signKey,
          granteeDh: grantee.keys.publicKey,
          role: 'user',
          permissions: ['exec'],
          drives: [],
          targets: [],
          expires: Math.floor(Date.now() / 1000) + 60,
          serial: 1,
          ...more,
        },
        seed,
      ),
    ),
  )
const certificateBy = (by: Identity) =>
  encodeBase64url(
    by.withSigningSeed(seed =>
      signCertificate(
        {
          version: 1,
          vm: id,
          launch: '22222222-2222-4222-8222-222222222222',
          generation: 1,
          agentDh: agentKeys.publicKey,
          agentSign,
        },
        seed,
      ),
    ),
  )

/** A broker that shows one VM, whose agent takes the owner and grants of the owner. */
async function scene(more: Partial<Vm> = {}, script: Script = {}, who = grantee) {
  const vm = sampleVm(owner.signKey, {
    state: 'ready',
    agent: sampleAgent(agentKeys.publicKey, agentSign),
    certificate: certificateBy(owner),
    grants: [grantFor()],
    ...more,
  })
  const put: Grant[] = []
  const broker = await smallBroker({
    [`POST /v1/vms/${id}/sessions`]: () => ({ json: { session, token: encodeBase64url(new Uint8Array(32)) } }),
    [`PUT /v1/vms/${id}/grants`]: body => {
      put.push(openGrant(decodeBase64url((body as { grant: string }).grant), owner.signKey))
      return { json: { vm } }
    },
    ...script,
  })
  close = broker.close
  let sockets = 0
  const revoked: number[] = []
  const openSocket: Host['openSocket'] = async () => {
    sockets++
    const [clientEnd, agentEnd] = transportPair()
    serveSession({
      transport: agentEnd,
      suite: nobleSuite,
      clock: wallClock,
      facts: { broker: broker.key, vm: vm.id, launch: vm.launch, session },
      agentKeys,
      agentSign,
      ownerDh: owner.keys.publicKey,
      launchSecret: owner.launchSecret(vm.id, vm.launch),
      handlers: {
        ...noHandlers,
        async 'grant-revoke'(call) {
          revoked.push(call.params.serial)
          call.accept({})
        },
      },
      guest: undefined,
      admit: caller =>
        caller.kind === 'owner'
          ? ownerRights(PERMISSIONS)
          : grantRights(openGrant(caller.grant, owner.signKey), PERMISSIONS),
    }).catch(() => undefined)
    return clientEnd
  }
  const host: Host = { suite: nobleSuite, clock: wallClock, openSocket }
  const api = new BrokerApi({ url: broker.url, identity: who, pins: pinsInMemory() })
  return { vm, api, host, put, revoked, broker, sockets: () => sockets }
}

describe('a granted VM', () => {
  test('opens by grant and certificate of its owner', async () => {
    const { api, host, vm } = await scene()
    const { session, contact } = await connectGrantedVm(api, grantee, host, vm)
    expect([contact, session.commands]).toEqual(['known', ['exec']])
    session.close()
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
  const options = { grantee: grantee.text, role: 'user' as const, drives: [], targets: [], seconds: 60 }

  test('a grant names the grantee’s keys and a serial above every earlier one', async () => {
    const late = Date.now() + 1_000_000
    const { api, put, vm } = await scene({ grants: [grantFor({ serial: late })] }, {}, owner)
    await createGrant(api, owner, wallClock, vm, { ...options, permissions: ['exec'] })
    expect(put[0]).toMatchObject({
      grantee: grantee.signKey,
      granteeDh: grantee.keys.publicKey,
      permissions: ['exec'],
      serial: late + 1,
    })
  })

  test.each([
    ['what exceeds the role', { permissions: ['power' as const] }, 'grant-invalid'],
    ['to nobody', { grantee: 'mortar1' }, 'bad-request'],
    ['a target that is none', { targets: ['everywhere'] }, 'grant-invalid'],
  ])('%s is not granted', async (_, more, code) => {
    const { api, put, vm } = await scene({}, {}, owner)
    await expect(createGrant(api, owner, wallClock, vm, { ...options, ...more })).rejects.toMatchObject({ code })
    expect(put).toEqual([])
  })

  test('nobody grants or revokes at another’s VM', async () => {
    const { api, host, vm } = await scene()
    await expect(createGrant(api, grantee, wallClock, vm, options)).rejects.toMatchObject({ code: 'denied' })
    await expect(revokeGrant(api, grantee, host, vm, owner.text)).rejects.toMatchObject({ code: 'denied' })
  })

  test('revoking tells broker and agent; when the agent cannot be told that is an error', async () => {
    const serial = Date.now() + 1_000_000
    const route = `DELETE /v1/vms/${id}/grants/${encodeBase64url(grantee.signKey)}`
    const taken: string[] = []
    const script: Script = {
      [route]: () => {
        taken.push(route)
        return { json: {} }
      },
    }
    const { api, host, vm, revoked } = await scene({ grants: [grantFor({ serial })] }, script, owner)
    await revokeGrant(api, owner, host, vm, grantee.text)
    expect([taken.length, revoked]).toEqual([1, [serial]])
    const away = { ...script, [`POST /v1/vms/${id}/sessions`]: () => refusal('vm-unreachable') }
    close()
    const second = await scene({}, away, owner)
    await expect(revokeGrant(second.api, owner, second.host, second.vm, grantee.text)).rejects.toMatchObject({
      code: 'vm-unreachable',
      detail: expect.stringContaining('repeat it'),
    })
    expect(taken).toHaveLength(2)
  })
})
