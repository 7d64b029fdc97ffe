/** A small broker that shows one VM of an owner's to a grantee, whose data socket leads to a real agent's end; a test says what is a lie. */
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import type { KnownGrant } from '../../client/grants/known-grants.ts'
import { wallClock } from '../../client/host/clock.ts'
import type { Host } from '../../client/host/host.ts'
import { Identity } from '../../client/identity/identity.ts'
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
import { type Script, sampleAgent, sampleVm, smallBroker } from './small-broker.ts'

export const owner = Identity.create(nobleSuite)
export const grantee = Identity.create(nobleSuite)
export const agentKeys = nobleSuite.generateKeyPair()
export const agentSign = new Uint8Array(32).fill(8)
export const session = '33333333-3333-4333-8333-333333333333'
export const id = '11111111-1111-4111-8111-111111111111'

export const mark = new Uint8Array(16).fill(6)

let close = () => {}
/** Ends the last scene's broker. */
export const endScene = () => close()

export const grantFor = (more: Partial<Grant> = {}, by = owner) =>
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
export const certificateBy = (by: Identity, serial = 1) =>
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
          ...{ provenBy: new Uint8Array(32), nextBoot: new Uint8Array(32), serial, confirmed: false },
        },
        seed,
      ),
    ),
  )

/** A broker that shows one VM, whose agent takes the owner and grants of the owner. */
export async function scene(
  more: Partial<Vm> = {},
  script: Script = {},
  who = grantee,
  known: readonly KnownGrant[] = [],
) {
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
  const revoked: string[] = []
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
          revoked.push(encodeBase64url(call.params.grantee))
          call.accept({ mark, serial: 4, sessions: 2, programsEnded: true })
        },
        async 'grant-list'(call) {
          call.accept({})
          call.post('known', [...known])
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
