/** A real client or a real agent, and opposite it a secure channel in which the test writes the frames by hand. */
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import type { MortarError } from '../../protocol/core/errors.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { type Handlers, openSession, serveSession } from '../../protocol/session.ts'
import { agentSign, facts, noHandlers, wallClock } from './session-pair.ts'
import { transportPair } from './transport-pair.ts'

export interface BareOptions {
  readonly clock?: Clock
  readonly suite?: Suite
  readonly handlers?: Partial<Handlers<undefined>>
}

const launchSecret = new Uint8Array(32).fill(9)
const contact = { kind: 'first', launchSecret } as const

/** Both ends' options of one session. */
export function bothEnds({ clock = wallClock, suite = nobleSuite, handlers }: BareOptions = {}) {
  const [clientEnd, agentEnd] = transportPair()
  const [ownerKeys, agentKeys] = [suite.generateKeyPair(), suite.generateKeyPair()]
  const common = { clock, suite, facts }
  return {
    clientEnd,
    agentEnd,
    client: {
      ...common,
      transport: clientEnd,
      ownerKeys,
      agent: { dh: agentKeys.publicKey, sign: agentSign },
      contact,
    },
    agent: {
      ...common,
      transport: agentEnd,
      agentKeys,
      agentSign,
      ownerDh: ownerKeys.publicKey,
      launchSecret,
      admit: onlyOwner(),
      handlers: { ...noHandlers, ...handlers },
      guest: undefined,
    },
  }
}

const codeOf = (ended: Promise<unknown>): Promise<string> =>
  ended.then(
    () => 'in order',
    (error: MortarError) => error.code,
  )

/** A channel, once the real other end has shaken hands. */
export async function channelPair(options?: BareOptions) {
  const { client, agent, ...ends } = bothEnds(options)
  const [clientChannel, agentChannel] = await Promise.all([SecureChannel.open(client), SecureChannel.accept(agent)])
  return { ...ends, clientChannel, agentChannel }
}

/** The client's channel, at a real agent; `ended`: the code with which the agent's side ended. */
export async function bareClient(options?: BareOptions) {
  const { client, agent } = bothEnds(options)
  const ended = codeOf(serveSession(agent))
  return { channel: await SecureChannel.open(client), ended }
}

/** The agent's channel, at a real client, which waits for READY. */
export async function bareAgent(options?: BareOptions) {
  const { client, agent } = bothEnds(options)
  const opening = openSession(client)
  opening.catch(() => undefined)
  return { channel: await SecureChannel.accept(agent), opening }
}
