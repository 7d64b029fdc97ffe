/**
 * Attacks of whoever holds all that the broker stores: its key, tickets, certificates, grants, public keys of everybody,
 * and recorded sessions. Each is played against a real client or a real agent, which must not be had. SPEC §2, §5
 */
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import { openCertificate } from '../../protocol/control/certificate.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { transportPair } from '../support/transport-pair.ts'
import { LOW_ORDER_POINTS } from './bytes.ts'
import { agentMeets, clientMeets, type Met, trusts } from './database-ends.ts'
import { bend, makeWorld, type World } from './database-world.ts'
import { turns } from './model.ts'
import { Random } from './random.ts'
import { count, newTally, type Tally } from './tally.ts'

export interface DatabaseAttack {
  readonly name: string
  play(world: World, random: Random): Promise<Met>
  /** why an attack of this kind fails even where nothing is encrypted; then there is no control on a broken channel */
  readonly noControl?: string
}

/** The public half is another's, the secret one the attacker's own. */
const claiming = (publicKey: Uint8Array, own: KeyPair): KeyPair => ({ ...own, publicKey })
const ownKeys = (suite: Suite, random: Random) => suite.importKeyPair(random.bytes(32))
const NOTHING: Met = { refused: true, bytes: 0 }
const SIGNED = 'a signature is checked before there is a channel'

/** What the attacker knows or can guess in place of the launch secret. */
const guesses = (world: World, random: Random): readonly Uint8Array[] => [
  random.bytes(32),
  new Uint8Array(32),
  world.ticket.commitment,
  world.ticket.brick,
  world.ownerDh,
  world.brokerSeed,
  world.otherLaunchSecret,
]

export const DATABASE_ATTACKS: readonly DatabaseAttack[] = [
  {
    name: 'database: pose as the agent that is certified',
    async play(world, random) {
      const agent = trusts(world, world.vm())
      const own = ownKeys(world.suite, random)
      const keys = random.below(2) === 0 ? own : claiming(world.agent.dh, own)
      return clientMeets(world, { agent, contact: { kind: 'known' } }, { keys, sign: world.agent.sign })
    },
  },
  {
    name: 'database: name other keys than the certificate',
    noControl: SIGNED,
    async play(world, random) {
      const own = ownKeys(world.suite, random)
      const bent = random.below(2) === 0 ? { agentDh: own.publicKey } : { agentSign: random.bytes(32) }
      const agent = refusedToTrust(() => trusts(world, world.vm({}, bent)))
      return agent
        ? clientMeets(world, { agent, contact: { kind: 'known' } }, { keys: own, sign: agent.sign })
        : NOTHING
    },
  },
  {
    name: 'database: make a certificate',
    noControl: SIGNED,
    async play(world, random) {
      const own = ownKeys(world.suite, random)
      const statement = { ...world.certificateOf, agentDh: own.publicKey }
      const made = bend(world, random, {
        label: 'mortar agent certificate v1',
        statement,
        signed: world.certificate,
        other: world.otherCertificate,
      })
      if (Buffer.compare(made, world.certificate) === 0) return NOTHING
      const shown = { agentDh: random.below(2) === 0 ? own.publicKey : world.agent.dh }
      const agent = refusedToTrust(() => trusts(world, world.vm({ certificate: encodeBase64url(made) }, shown)))
      return agent
        ? clientMeets(world, { agent, contact: { kind: 'known' } }, { keys: own, sign: world.agent.sign })
        : NOTHING
    },
  },
  {
    name: "database: pass another VM's certificate off, whose agent is the attacker's",
    noControl: SIGNED,
    async play(world, random) {
      // the owner's signature, and the keys of a VM that was broken into
      const { agentDh, agentSign } = openCertificate(world.otherCertificate, world.owner.signKey)
      const bent = { certificate: encodeBase64url(world.otherCertificate) }
      const shown = random.below(4) === 0 ? {} : { agentDh, agentSign }
      const agent = refusedToTrust(() => trusts(world, world.vm(bent, shown)))
      const truth = { keys: world.otherAgentKeys, sign: agentSign }
      return agent ? clientMeets(world, { agent, contact: { kind: 'known' } }, truth) : NOTHING
    },
  },
  {
    name: 'database: pose as a new boot, without the launch secret',
    async play(world, random) {
      const keys = ownKeys(world.suite, random)
      const sign = random.bytes(32)
      const contact = { kind: 'first' as const, launchSecret: world.launchSecret.slice() }
      const guess = random.pick(guesses(world, random))
      return clientMeets(world, { agent: { dh: keys.publicKey, sign }, contact }, { keys, sign, launchSecret: guess })
    },
  },
  {
    name: 'database: pose as the owner',
    async play(world, random) {
      const own = ownKeys(world.suite, random)
      const keys = random.pick([own, claiming(world.ownerDh, own), claiming(lowOrder(random), own)])
      const contact =
        random.below(2) === 0
          ? { kind: 'known' as const }
          : { kind: 'first' as const, launchSecret: random.pick(guesses(world, random)).slice() }
      return agentMeets(world, { keys, contact })
    },
  },
  {
    name: 'database: pose as a grantee, with the grant',
    async play(world, random) {
      const own = ownKeys(world.suite, random)
      const keys = random.pick([own, claiming(world.grantee.keys.publicKey, own), claiming(lowOrder(random), own)])
      return agentMeets(world, { keys, contact: { kind: 'known' }, grant: world.grant })
    },
  },
  {
    name: 'database: make a grant',
    noControl: SIGNED,
    play(world, random) {
      const keys = ownKeys(world.suite, random)
      const grant = bend(world, random, {
        label: 'mortar grant v1',
        statement: { ...world.grantOf, granteeDh: keys.publicKey },
        signed: world.grant,
        other: random.pick([world.otherGrant, world.certificate]),
      })
      return agentMeets(world, { keys, contact: { kind: 'known' }, grant })
    },
  },
  {
    name: 'database: come back as a former grantee, or with a grant for another VM',
    noControl: SIGNED,
    play(world, random) {
      const grant = random.pick([world.formerGrant, world.otherGrant])
      return agentMeets(world, { keys: world.former.keys, contact: { kind: 'known' }, grant })
    },
  },
  {
    name: "database: replay a grantee's session",
    async play(world, random) {
      const said: Uint8Array[] = []
      const tapped = (end: Transport): Transport => ({
        ...end,
        send(packet) {
          said.push(packet.slice())
          end.send(packet)
        },
      })
      const itself = { keys: world.grantee.keys, contact: { kind: 'known' as const }, grant: world.grant }
      const met = await agentMeets(world, itself, { through: tapped })
      if (met.refused) throw new Error('the true grantee was refused')
      const [end, agentEnd] = transportPair()
      const heard = { bytes: 0 }
      const served = world.serve(agentEnd, heard)
      for (const packet of random.below(2) === 0 ? said : said.slice(random.below(said.length))) end.send(packet)
      await turns(REPLAY_TURNS)
      end.close()
      await served
      return { refused: heard.bytes === 0, bytes: heard.bytes }
    },
  },
]

const lowOrder = (random: Random) => Uint8Array.from(Buffer.from(random.pick(LOW_ORDER_POINTS), 'hex'))

/** What the client would take for the agent's keys; null when it fails closed. */
function refusedToTrust<T>(run: () => T): T | null {
  try {
    return run()
  } catch {
    return null
  }
}

const PLAYS_PER_WORLD = 250
/** turns of the event loop in which an agent would answer what is replayed */
const REPLAY_TURNS = 40

/** Plays an attack `times` times; play number i can be made again from `seed` and i. */
export async function runDatabaseAttack(
  row: DatabaseAttack,
  times: number,
  seed: string,
  broken = false,
): Promise<Tally> {
  const tally = newTally(row.name)
  let world: World | undefined
  for (let i = 0; i < times; i++) {
    if (i % PLAYS_PER_WORLD === 0) {
      world?.remove()
      world = makeWorld(new Random(`${seed}/world/${i / PLAYS_PER_WORLD}`), broken)
    }
    const name = `${seed}/${row.name}/${i}`
    const { refused, bytes } = await row.play(world as World, new Random(name))
    count(tally, refused, bytes, name)
  }
  world?.remove()
  return tally
}
