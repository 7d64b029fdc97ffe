/** An owner, grantees, a VM with its agent, and all that a broker stores of them; and statements bent by who has only that. */
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Grants } from '../../agent/grants/grants.ts'
import { Identity } from '../../client/identity/identity.ts'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import type { AgentKeys, SessionFacts } from '../../protocol/channel/secure-channel.ts'
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { type AgentCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { type Grant, signGrant } from '../../protocol/control/grant.ts'
import { PERMISSIONS } from '../../protocol/control/roles.ts'
import type { LaunchTicket } from '../../protocol/control/ticket.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import { bytes, bytesUpTo, object } from '../../protocol/core/schema.ts'
import { sealStatement, sign, signingPublicKey } from '../../protocol/core/signing.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { serveSession } from '../../protocol/session.ts'
import { sampleAgent, sampleVm } from '../client/small-broker.ts'
import { noHandlers, wallClock } from '../support/session-pair.ts'
import { brokenSuite, type Random } from './random.ts'

/** What the agent says to anybody who gets a program: what an attacker must not get. */
export const SECRET_OUTPUT = new Uint8Array(64).fill(0x5a)
export const TEN_MINUTES_S = 600

export interface World {
  readonly suite: Suite
  readonly facts: SessionFacts
  readonly owner: Identity
  readonly ownerDh: Uint8Array
  readonly grantee: Identity
  readonly former: Identity
  readonly agent: AgentKeys
  readonly launchSecret: Uint8Array
  /** what the attacker has */
  readonly brokerSeed: Uint8Array
  readonly ticket: LaunchTicket
  readonly certificateOf: AgentCertificate
  readonly certificate: Uint8Array
  readonly grantOf: Grant
  readonly grant: Uint8Array
  /** replaced by a later one since */
  readonly formerGrant: Uint8Array
  /** of another VM of the owner's, which the attacker has broken into */
  readonly otherCertificate: Uint8Array
  readonly otherGrant: Uint8Array
  readonly otherAgentKeys: KeyPair
  readonly otherLaunchSecret: Uint8Array
  /** the VM as the broker shows it */
  vm(more?: Partial<Vm>, agent?: { agentDh?: Uint8Array; agentSign?: Uint8Array }): Vm
  /** the true agent; `heard` counts what its programs were given. Resolves when the session is over, however. */
  serve(transport: Transport, heard: { bytes: number }): Promise<void>
  remove(): void
}

export function makeWorld(random: Random, broken = false): World {
  const suite = broken ? brokenSuite(nativeSuite) : nativeSuite
  const folder = mkdtempSync(join(tmpdir(), 'mortar-hostile-'))
  const person = () => Identity.fromSeed(suite, random.bytes(32))
  const [owner, grantee, former] = [person(), person(), person()]
  const [vm, launch, otherVm] = [random.uuid(), random.uuid(), random.uuid()]
  const brokerSeed = random.bytes(32)
  const agentKeys = suite.importKeyPair(random.bytes(32))
  const otherAgentKeys = suite.importKeyPair(random.bytes(32))
  const agent = { dh: agentKeys.publicKey, sign: signingPublicKey(random.bytes(32)) }
  const launchSecret = random.bytes(32)
  const facts = { broker: signingPublicKey(brokerSeed), vm, launch, session: random.uuid() }
  const ownerDh = owner.keys.publicKey
  const ticket: LaunchTicket = {
    version: 1,
    vm,
    launch,
    owner: owner.signKey,
    ownerDh,
    brick: random.bytes(32),
    broker: facts.broker,
    commitment: launchCommitment(suite, launchSecret),
    nonce: random.bytes(16),
    expires: 1_800_000_000,
  }
  const certify = (statement: AgentCertificate) => owner.withSigningSeed(seed => signCertificate(statement, seed))
  const grantTo = (statement: Grant) => owner.withSigningSeed(seed => signGrant(statement, seed))
  const certificateOf: AgentCertificate = {
    version: 1,
    vm,
    launch,
    generation: 1,
    agentDh: agent.dh,
    agentSign: agent.sign,
    provenBy: ticket.commitment,
    nextBoot: signingPublicKey(random.bytes(32)),
    serial: 1,
    confirmed: false,
  }
  const grantOf: Grant = {
    version: 1,
    vm,
    grantee: grantee.signKey,
    granteeDh: grantee.keys.publicKey,
    role: 'user',
    permissions: ['exec', 'info'],
    drives: [],
    targets: [],
    expires: Math.floor(Date.now() / 1000) + TEN_MINUTES_S,
    serial: 10,
  }
  const formerOf = { ...grantOf, grantee: former.signKey, granteeDh: former.keys.publicKey }
  const certificate = certify(certificateOf)
  const grants = new Grants({
    stateDirectory: folder,
    ticket,
    config: { features: PERMISSIONS },
    clock: wallClock,
    onEntering: () => {},
    onEntered: () => {},
    onWithdrawn: async () => true,
  })
  // it holds from here on; what it resolves with is for who waits for programs to end
  void grants.revoke(former.signKey)
  return {
    suite,
    facts,
    owner,
    ownerDh,
    grantee,
    former,
    agent,
    launchSecret,
    brokerSeed,
    ticket,
    certificateOf,
    certificate,
    grantOf,
    grant: grantTo(grantOf),
    formerGrant: grantTo(formerOf),
    otherCertificate: certify({ ...certificateOf, vm: otherVm, agentDh: otherAgentKeys.publicKey }),
    otherGrant: grantTo({ ...formerOf, vm: otherVm }),
    otherAgentKeys,
    otherLaunchSecret: random.bytes(32),
    vm: (more = {}, { agentDh = agent.dh, agentSign = agent.sign } = {}) =>
      sampleVm(owner.signKey, {
        id: vm,
        launch,
        state: 'ready',
        certificate: encodeBase64url(certificate),
        agent: sampleAgent(agentDh, agentSign),
        ...more,
      }),
    serve: (transport, heard) =>
      serveSession({
        transport,
        suite,
        clock: wallClock,
        facts,
        agentKeys,
        agentSign: agent.sign,
        ownerDh,
        launchSecret: launchSecret.slice(),
        handlers: {
          ...noHandlers,
          async exec(call) {
            call.accept({})
            heard.bytes += call.params.argv.join('').length
            await call.write(SECRET_OUTPUT)
            call.post('exit', { code: 0, signal: null })
          },
        },
        guest: undefined,
        admit: caller => grants.admit(caller, () => {}).rights,
      }).then(
        () => undefined,
        () => undefined,
      ),
    remove: () => rmSync(folder, { recursive: true, force: true }),
  }
}

const envelope = object({ body: bytesUpTo(8_192), key: bytes(32), signature: bytes(64) })
const open = (signed: Uint8Array) => decodeCbor(envelope, signed, 16_384, 'bad-request')

export interface Bending {
  readonly label: string
  /** what the attacker wants it to say */
  readonly statement: object
  /** what the owner signed */
  readonly signed: Uint8Array
  readonly other: Uint8Array
}

/** A statement that the owner never signed, by who has the owner's signatures and the broker's key. */
export function bend(world: World, random: Random, { label, statement, signed, other }: Bending): Uint8Array {
  const [mine, theirs] = [open(signed), open(other)]
  const body = encodeCbor(statement)
  const flipped = signed.slice()
  const at = random.below(flipped.length)
  flipped[at] = (flipped[at] as number) ^ (1 << random.below(8))
  const seed = random.below(2) === 0 ? world.brokerSeed : random.bytes(32)
  return random.pick([
    () => flipped,
    () => encodeCbor({ ...mine, body }),
    () => encodeCbor({ ...theirs, body }),
    () => encodeCbor({ ...mine, signature: theirs.signature }),
    () => encodeCbor({ ...mine, body: theirs.body }),
    () => sealStatement(label, statement, seed),
    () => encodeCbor({ body, key: world.owner.signKey, signature: sign(label, body, seed) }),
    () => encodeCbor({ body, key: world.owner.signKey, signature: random.bytes(64) }),
  ])()
}
