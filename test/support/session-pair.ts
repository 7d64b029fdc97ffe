/** A client and an agent over memory, with real channel, mux and commands; the handlers are the test's own. */
import { wallClock } from '../../client/host/clock.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import type { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import { onlyOwner, type Rights } from '../../protocol/rights.ts'
import { type Caller, type Contact, type Handlers, openSession, serveSession } from '../../protocol/session.ts'
import { transportPair } from './transport-pair.ts'

export { wallClock }

const refuse = async () => {
  throw new MortarError('unknown-command')
}

export const noHandlers: Handlers<undefined> = {
  info: refuse,
  exec: refuse,
  'exec-list': refuse,
  terminal: refuse,
  'drive-format': refuse,
  'drive-unlock': refuse,
  'drive-lock': refuse,
  'drive-list': refuse,
  ssh: refuse,
  'grant-revoke': refuse,
  'grant-list': refuse,
}

export const facts = {
  broker: new Uint8Array(32).fill(7),
  vm: '11111111-1111-4111-8111-111111111111',
  launch: '22222222-2222-4222-8222-222222222222',
  session: '33333333-3333-4333-8333-333333333333',
}

/** the agent's Ed25519 key */
export const agentSign = new Uint8Array(32).fill(8)

export interface PairOptions {
  handlers?: Partial<Handlers<undefined>>
  /** the owner and nobody else unless given */
  admit?: (caller: Caller) => Rights
  /** calls of the agent that outlive this session */
  kept?: KeptCalls
  /** ends the agent's side */
  signal?: AbortSignal
  /** who calls, if not the owner, and with what */
  clientKeys?: KeyPair
  grant?: Uint8Array
  suites?: { client: Suite; agent: Suite }
  clientContact?: Contact
  /** what the client takes for the agent's Ed25519 key */
  clientSign?: Uint8Array
  agentSecret?: Uint8Array
  ownerIs?: Uint8Array
  clientFacts?: typeof facts
  clock?: Clock
  /** stands between the two ends, as a relay does */
  through?: (client: Transport, agent: Transport) => [Transport, Transport]
}

/** Starts both ends; resolves when the client's session is open. `served` settles when the agent's side has ended. */
export async function sessionPair(options: PairOptions = {}) {
  const suites = options.suites ?? { client: nobleSuite, agent: nobleSuite }
  const ownerKeys = suites.client.generateKeyPair()
  const agentKeys = suites.agent.generateKeyPair()
  const launchSecret = new Uint8Array(32).fill(9)
  const pair = transportPair()
  const [clientEnd, agentEnd] = options.through?.(...pair) ?? pair
  const clock = options.clock ?? wallClock
  const faults: [string, string][] = []
  const served = serveSession({
    transport: agentEnd,
    suite: suites.agent,
    clock,
    facts,
    agentKeys,
    agentSign,
    ownerDh: options.ownerIs ?? ownerKeys.publicKey,
    launchSecret: options.agentSecret ?? launchSecret,
    handlers: { ...noHandlers, ...options.handlers },
    guest: undefined,
    admit: options.admit ?? onlyOwner(),
    ...(options.signal && { signal: options.signal }),
    ...(options.kept && { kept: options.kept }),
    onFault: (command, error) => faults.push([command, error.code]),
  }).then(
    () => undefined,
    (error: MortarError) => error,
  )
  const session = await openSession({
    transport: clientEnd,
    suite: suites.client,
    clock,
    facts: options.clientFacts ?? facts,
    ownerKeys: options.clientKeys ?? ownerKeys,
    ...(options.grant && { grant: options.grant }),
    agent: { dh: agentKeys.publicKey, sign: options.clientSign ?? agentSign },
    contact: options.clientContact ?? { kind: 'first', launchSecret },
  })
  return { session, served, faults, clientEnd, agentEnd }
}
