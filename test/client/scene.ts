/** A small broker that shows one VM, whose data socket leads to a real agent's end of the channel; a test says what is a lie. */
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { wallClock } from '../../client/host/clock.ts'
import type { Host } from '../../client/host/host.ts'
import { Identity } from '../../client/identity/identity.ts'
import { connectVm } from '../../client/sessions/connect.ts'
import { launchCommitment, launchSeed } from '../../protocol/channel/derive.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { type BootStatement, signBoot } from '../../protocol/control/boot.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { serveSession } from '../../protocol/session.ts'
import { noHandlers } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'
import { type Script, sampleAgent, sampleVm, smallBroker } from './small-broker.ts'

export const identity = Identity.create(nobleSuite)
export const agentKeys = nobleSuite.generateKeyPair()
export const agentSign = new Uint8Array(32).fill(8)
export const session = '33333333-3333-4333-8333-333333333333'
const token = encodeBase64url(new Uint8Array(32).fill(5))

const { id, launch } = sampleVm(identity.signKey)
export const launchKey = launchCommitment(nobleSuite, identity.launchSecret(id, launch))
/** seed of the key that the agent keeps for its next boot */
export const nextSeed = new Uint8Array(32).fill(21)
export const nextBoot = signingPublicKey(nextSeed)

/** The seed that signs the first boot of a launch. */
export const launchSeedOf = (of: string) => launchSeed(nobleSuite, identity.launchSecret(id, of))

/** A boot statement of these keys: of the first boot of the launch, unless signed by another one-use key. */
export function statementFor(
  { agentDh, agentSign }: { agentDh: string; agentSign: string },
  more: Partial<BootStatement> = {},
  seed = launchSeedOf(launch),
): string {
  const keys = { agentDh: decodeBase64url(agentDh), agentSign: decodeBase64url(agentSign) }
  const statement = { version: 1 as const, vm: id, launch, generation: 1, boot: id, ...keys, nextBoot, ...more }
  return encodeBase64url(signBoot(statement, seed))
}

let close = () => {}
/** Ends the last scene's broker. */
export const endScene = () => close()

export interface Scene {
  /** how the broker shows the VM */
  readonly vm?: Partial<Vm>
  readonly agent?: Partial<NonNullable<Vm['agent']>>
  /** what the agent was launched with */
  readonly launchSecret?: Uint8Array
  readonly ownerDh?: Uint8Array
  readonly launch?: string
  /** what the agent has in truth, whatever the broker shows */
  readonly keys?: typeof agentKeys
  readonly sign?: Uint8Array
  /** between the two ends */
  readonly through?: (agent: Transport) => Transport
  readonly script?: Script
  /** stands for the data socket */
  readonly openSocket?: () => Promise<Transport>
}

/** A broker whose data socket leads to a real agent's end of the channel. */
export async function scene({
  vm: more = {},
  agent = {},
  launchSecret,
  script = {},
  openSocket,
  ...truth
}: Scene = {}) {
  const shown = sampleAgent(agentKeys.publicKey, agentSign, agent)
  const vm = sampleVm(identity.signKey, { agent: shown, boots: [statementFor(shown)], ...more })
  const certificates: string[] = []
  const broker = await smallBroker({
    [`POST /v1/vms/${vm.id}/sessions`]: () => ({ json: { session, token } }),
    [`PUT /v1/vms/${vm.id}/certificate`]: body => {
      certificates.push((body as { certificate: string }).certificate)
      return { json: { vm } }
    },
    ...script,
  })
  close = broker.close
  const serve = async () => {
    const [clientEnd, end] = transportPair()
    const agentEnd = truth.through?.(end) ?? end
    serveSession({
      transport: agentEnd,
      suite: nobleSuite,
      clock: wallClock,
      facts: { broker: broker.key, vm: vm.id, launch: truth.launch ?? vm.launch, session },
      agentKeys: truth.keys ?? agentKeys,
      agentSign: truth.sign ?? agentSign,
      ownerDh: truth.ownerDh ?? identity.keys.publicKey,
      nextBoot: () => nextBoot,
      launchSecret: launchSecret ?? identity.launchSecret(vm.id, vm.launch),
      handlers: noHandlers,
      guest: undefined,
      admit: onlyOwner(),
    }).catch(() => undefined)
    return clientEnd
  }
  const host: Host = { suite: nobleSuite, clock: wallClock, openSocket: openSocket ?? serve }
  const api = new BrokerApi({ url: broker.url, identity, pins: pinsInMemory() })
  return { vm, certificates, connect: () => connectVm(api, identity, host, vm), api, host, broker }
}
