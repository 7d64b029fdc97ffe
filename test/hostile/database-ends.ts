/** The real ends that who holds a broker's database meets: a client that looks for its agent, an agent that is called. */
import { judgeBoot } from '../../client/vms/boots.ts'
import type { AgentKeys, Contact } from '../../protocol/channel/secure-channel.ts'
import type { KeyPair } from '../../protocol/channel/suite.ts'
import { exec } from '../../protocol/commands/exec.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { encodeText } from '../../protocol/core/bytes.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { openSession, serveSession } from '../../protocol/session.ts'
import { noHandlers, wallClock } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'
import type { World } from './database-world.ts'

/** How an end fared: whether it refused the attacker, and bytes of what it keeps to itself that the attacker got. */
export interface Met {
  readonly refused: boolean
  readonly bytes: number
}

/** The agent's keys that the client takes from what the broker shows. Fails when it believes none of it. */
export function trusts(world: World, vm: Vm): AgentKeys {
  const standing = judgeBoot(world.owner.signKey, vm, null)
  if (standing.kind !== 'certified') throw new Error(`no certificate: ${standing.kind}`)
  const { certificate } = standing
  return { dh: certificate.agentDh, sign: certificate.agentSign }
}

const TOLD = ['what only the agent may read']

/** The owner's client against an agent of the attacker's. */
export async function clientMeets(
  world: World,
  client: { readonly agent: AgentKeys; readonly contact: Contact },
  attacker: { readonly keys: KeyPair; readonly sign: Uint8Array; readonly launchSecret?: Uint8Array },
): Promise<Met> {
  const [clientEnd, attackerEnd] = transportPair()
  let bytes = 0
  const served = serveSession({
    transport: attackerEnd,
    suite: world.suite,
    clock: wallClock,
    facts: world.facts,
    agentKeys: attacker.keys,
    agentSign: attacker.sign,
    ownerDh: world.ownerDh,
    launchSecret: (attacker.launchSecret ?? new Uint8Array(32)).slice(),
    handlers: {
      ...noHandlers,
      async exec(call) {
        bytes += encodeText(call.params.argv.join('')).length
        call.accept({})
      },
    },
    guest: undefined,
    admit: onlyOwner(),
  }).catch(() => undefined)
  try {
    const session = await openSession({
      transport: clientEnd,
      suite: world.suite,
      clock: wallClock,
      facts: world.facts,
      ownerKeys: world.owner.keys,
      ...client,
    })
    await session.open(exec, { argv: TOLD }).catch(() => undefined)
    session.close()
    await served
    return { refused: false, bytes }
  } catch {
    clientEnd.close()
    await served
    return { refused: true, bytes }
  }
}

/** The agent against a caller of the attacker's. */
export async function agentMeets(
  world: World,
  attacker: { readonly keys: KeyPair; readonly contact: Contact; readonly grant?: Uint8Array },
  { through = end => end }: { through?: (end: Transport) => Transport } = {},
): Promise<Met> {
  const [end, agentEnd] = transportPair()
  const heard = { bytes: 0 }
  const served = world.serve(agentEnd, heard)
  const { keys, contact, grant } = attacker
  const calling = through(end)
  try {
    const session = await openSession({
      transport: calling,
      suite: world.suite,
      clock: wallClock,
      facts: world.facts,
      ownerKeys: keys,
      agent: world.agent,
      contact,
      ...(grant && { grant }),
    })
    let bytes = 0
    const call = await session.open(exec, { argv: ['cat', 'secrets'] })
    for await (const item of call.received()) if (item.type === 'data') bytes += item.bytes.length
    session.close()
    await served
    return { refused: false, bytes }
  } catch {
    calling.close()
    await served
    return { refused: heard.bytes === 0, bytes: heard.bytes }
  }
}
