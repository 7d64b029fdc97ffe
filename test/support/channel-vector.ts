/** Runs a whole handshake and its first records with the keys of a vector, and compares every byte on the way. SPEC §5 */
import { comparisonCode } from '../../protocol/channel/comparison.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { decodeHex, encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { wallClock } from './session-pair.ts'
import { transportPair } from './transport-pair.ts'

export interface ChannelVector {
  readonly contact: 'first' | 'known'
  readonly facts: { readonly broker: string; readonly vm: string; readonly launch: string; readonly session: string }
  readonly initiator: { readonly s: string; readonly e: string }
  readonly responder: { readonly s: string; readonly e: string }
  readonly kem: { readonly publicKey: string; readonly ciphertext: string; readonly secret: string }
  readonly launchSecret: string
  readonly expected: {
    readonly messages: readonly string[]
    readonly handshakeHash: string
    readonly fromInitiator: readonly string[]
    readonly fromResponder: readonly string[]
  }
}

function same(what: string, seen: unknown, expected: unknown): void {
  if (JSON.stringify(seen) !== JSON.stringify(expected)) throw new Error(`${what}: ${JSON.stringify(seen)}`)
}

/** The suite with the vector's ephemeral keys and KEM instead of chance. */
function fixed(suite: Suite, ephemeral: string, kem: ChannelVector['kem']): Suite {
  return {
    ...suite,
    generateKeyPair: () => suite.importKeyPair(decodeHex(ephemeral)),
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

/** Returns the comparison code; throws with the first thing that differs. */
export async function runChannelVector(vector: ChannelVector, suite: Suite): Promise<string> {
  const { contact, initiator, responder, kem, expected } = vector
  const facts = { ...vector.facts, broker: decodeHex(vector.facts.broker) }
  const launchSecret = decodeHex(vector.launchSecret)
  const sent = { client: [] as string[], agent: [] as string[] }
  const [clientEnd, agentEnd] = transportPair()
  const common = { clock: wallClock, facts }
  const [client, agent] = await Promise.all([
    SecureChannel.open({
      ...common,
      transport: noting(clientEnd, sent.client),
      suite: fixed(suite, initiator.e, kem),
      ownerKeys: suite.importKeyPair(decodeHex(initiator.s)),
      agentDh: suite.importKeyPair(decodeHex(responder.s)).publicKey,
      contact: contact === 'first' ? { kind: 'first', launchSecret } : { kind: 'known' },
    }),
    SecureChannel.accept({
      ...common,
      transport: noting(agentEnd, sent.agent),
      suite: fixed(suite, responder.e, kem),
      agentKeys: suite.importKeyPair(decodeHex(responder.s)),
      ownerDh: suite.importKeyPair(decodeHex(initiator.s)).publicKey,
      launchSecret,
      admit: onlyOwner(),
    }),
  ])
  for (const i of [0, 1]) {
    client.send(encodeText(`from the client ${i}`))
    agent.send(encodeText(`from the agent ${i}`))
    await agent.receive()
    await client.receive()
  }
  same('from the client', sent.client, [expected.messages[0], expected.messages[2], ...expected.fromInitiator])
  same('from the agent', sent.agent, [expected.messages[1], ...expected.fromResponder])
  same('transcript hash of the client', encodeHex(client.bindingHash), expected.handshakeHash)
  same('transcript hash of the agent', encodeHex(agent.bindingHash), expected.handshakeHash)
  return comparisonCode(suite, client.bindingHash)
}
