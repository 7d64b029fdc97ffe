/** Runs a whole handshake and its first records with the keys of a vector, and compares every byte on the way. SPEC §5 */
import { hkdf } from '../../protocol/channel/derive.ts'
import { type Caller, SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { decodeHex, encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import { sha256, signingPublicKey } from '../../protocol/core/signing.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { wallClock } from './session-pair.ts'
import { transportPair } from './transport-pair.ts'

/** Bytes are hex. */
export interface ChannelVector {
  readonly name: string
  readonly contact: 'first' | 'known'
  readonly facts: { readonly broker: string; readonly vm: string; readonly launch: string; readonly session: string }
  readonly ownerDh: string
  /** identity seed of who calls, and what of it the channel uses */
  readonly initiator: { readonly seed: string; readonly s: string; readonly e: string }
  /** seed of the agent's boot, and what of it the channel uses */
  readonly responder: { readonly seed: string; readonly s: string; readonly e: string }
  readonly kem: { readonly publicKey: string; readonly ciphertext: string; readonly secret: string }
  readonly launchSecret: string
  /** of who is not the owner */
  readonly grant?: string
  readonly expected: {
    readonly prologue: string
    readonly psk: string
    readonly messages: readonly string[]
    readonly transcriptHash: string
  }
  readonly records: readonly RecordVector[]
}

/** Plaintext: a text, or so many bytes of one value. */
interface RecordVector {
  readonly from: 'client' | 'agent'
  readonly text?: string
  readonly byte?: number
  readonly length?: number
  readonly packet?: string
  /** of a packet that is too long to be written out */
  readonly sha256?: string
}

function same(what: string, seen: unknown, expected: unknown): void {
  if (seen !== expected) throw new Error(`${what}: ${seen}`)
}

/** The suite with the vector's KEM and ephemeral keys, in turn, instead of chance. */
export function fixedSuite(suite: Suite, ephemerals: readonly string[], kem: ChannelVector['kem']): Suite {
  const left = [...ephemerals]
  return {
    ...suite,
    generateKeyPair() {
      const next = left.shift()
      if (next === undefined) throw new Error('a key pair more than the vector has')
      return suite.importKeyPair(decodeHex(next))
    },
    generateKemKeys: () => ({
      publicKey: decodeHex(kem.publicKey),
      decapsulate(ciphertext) {
        same('KEM ciphertext', encodeHex(ciphertext), kem.ciphertext)
        return decodeHex(kem.secret)
      },
      wipe: () => undefined,
    }),
    encapsulate(publicKey) {
      same('KEM key', encodeHex(publicKey), kem.publicKey)
      return { ciphertext: decodeHex(kem.ciphertext), secret: decodeHex(kem.secret) }
    },
  }
}

/** Notes what is sent. */
function noting(transport: Transport, sent: string[]): Transport {
  return {
    ...transport,
    send(packet) {
      sent.push(encodeHex(packet))
      transport.send(packet)
    },
  }
}

/** Throws with the first thing that differs. */
export async function runChannelVector(vector: ChannelVector, suite: Suite): Promise<void> {
  const { expected } = vector
  const sent = { client: [] as string[], agent: [] as string[] }
  const [clientEnd, agentEnd] = transportPair()
  let caller: Caller | undefined
  const [client, agent] = await Promise.all([
    openVector(vector, suite, noting(clientEnd, sent.client)),
    acceptVector(vector, suite, noting(agentEnd, sent.agent), who => {
      caller = who
    }),
  ])
  same('message 1', sent.client[0], expected.messages[0])
  same('message 2', sent.agent[0], expected.messages[1])
  same('message 3', sent.client[1], expected.messages[2])
  same('transcript hash of the client', encodeHex(client.bindingHash), expected.transcriptHash)
  same('transcript hash of the agent', encodeHex(agent.bindingHash), expected.transcriptHash)
  same('caller', caller?.kind, vector.grant === undefined ? 'owner' : 'grantee')
  if (caller?.kind === 'grantee') same('grant', encodeHex(caller.grant), vector.grant)
  for (const [index, record] of vector.records.entries()) {
    const [from, to] = record.from === 'client' ? [client, agent] : [agent, client]
    const plaintext = plaintextOf(record)
    from.send(plaintext)
    const packet = sent[record.from].at(-1) ?? ''
    const seen = record.sha256 === undefined ? packet : encodeHex(sha256(decodeHex(packet)))
    same(`record ${index + 1}`, seen, record.sha256 ?? record.packet)
    same(`record ${index + 1}, opened`, encodeHex((await to.receive()) ?? new Uint8Array()), encodeHex(plaintext))
  }
}

const plaintextOf = ({ text, byte = 0, length = 0 }: RecordVector) =>
  text === undefined ? new Uint8Array(length).fill(byte) : encodeText(text)

/** What a test changes of what an end knows. */
export type Change = Partial<Pick<ChannelVector, 'ownerDh' | 'facts' | 'launchSecret'>>

/** The Ed25519 key of the agent in the vector's boot. */
export function agentSignOf({ responder }: Pick<ChannelVector, 'responder'>, suite: Suite): Uint8Array {
  return signingPublicKey(hkdf(suite, decodeHex(responder.seed), new Uint8Array(0), 'mortar agent sign v1', 32))
}

export function openVector(vector: ChannelVector, suite: Suite, transport: Transport): Promise<SecureChannel> {
  const { contact, initiator, responder } = vector
  return SecureChannel.open({
    clock: wallClock,
    facts: { ...vector.facts, broker: decodeHex(vector.facts.broker) },
    transport,
    suite: fixedSuite(suite, [initiator.e], vector.kem),
    ownerKeys: suite.importKeyPair(decodeHex(initiator.s)),
    agent: { dh: suite.importKeyPair(decodeHex(responder.s)).publicKey, sign: agentSignOf(vector, suite) },
    contact: contact === 'first' ? { kind: 'first', launchSecret: decodeHex(vector.launchSecret) } : { kind: 'known' },
    ...(vector.grant !== undefined && { grant: decodeHex(vector.grant) }),
  })
}

export function acceptVector(
  vector: ChannelVector,
  suite: Suite,
  transport: Transport,
  admit: (caller: Caller) => void = () => undefined,
): Promise<SecureChannel> {
  return SecureChannel.accept({
    clock: wallClock,
    facts: { ...vector.facts, broker: decodeHex(vector.facts.broker) },
    transport,
    suite: fixedSuite(suite, [vector.responder.e], vector.kem),
    agentKeys: suite.importKeyPair(decodeHex(vector.responder.s)),
    agentSign: agentSignOf(vector, suite),
    ownerDh: decodeHex(vector.ownerDh),
    launchSecret: decodeHex(vector.launchSecret),
    admit,
  })
}

/** The agent alone, which gets the client's two messages as the vector has them and knows what `change` says. */
export function replayToAgent(vector: ChannelVector, suite: Suite, change: Change): Promise<SecureChannel> {
  const [clientEnd, agentEnd] = transportPair()
  const accepted = acceptVector({ ...vector, ...change }, suite, agentEnd)
  for (const index of [0, 2]) clientEnd.send(decodeHex(vector.expected.messages[index] ?? ''))
  return accepted
}
