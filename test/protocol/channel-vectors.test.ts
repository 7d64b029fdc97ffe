/** The channel against a second implementation of its handshake, written from the specification (test/vectors/make-channel.mjs). SPEC §5 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { comparisonCode } from '../../protocol/channel/comparison.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { decodeHex, encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import { type Transport, transportPair } from '../../protocol/core/transport.ts'
import { BACKENDS } from '../support/noise-vector.ts'
import { wallClock } from '../support/session-pair.ts'

interface Vector {
  contact: 'first' | 'known'
  facts: { broker: string; vm: string; launch: string; session: string }
  initiator: { s: string; e: string }
  responder: { s: string; e: string }
  kem: { publicKey: string; ciphertext: string; secret: string }
  launchSecret: string
  expected: { messages: string[]; handshakeHash: string; fromInitiator: string[]; fromResponder: string[] }
}
const { vectors } = JSON.parse(readFileSync(new URL('../vectors/channel.json', import.meta.url), 'utf8')) as {
  vectors: Vector[]
}

/** The suite with the vector's ephemeral keys and KEM instead of chance. */
function fixed(suite: Suite, ephemeral: string, kem: Vector['kem']): Suite {
  return {
    ...suite,
    generateKeyPair: () => suite.importKeyPair(decodeHex(ephemeral)),
    generateKemKeys: () => ({
      publicKey: decodeHex(kem.publicKey),
      decapsulate: ciphertext => {
        expect(encodeHex(ciphertext)).toBe(kem.ciphertext)
        return decodeHex(kem.secret)
      },
      wipe: () => undefined,
    }),
    encapsulate: publicKey => {
      expect(encodeHex(publicKey)).toBe(kem.publicKey)
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

describe.each(Object.entries(BACKENDS))('%s', (_, { suite }) => {
  test.each(vectors.map(vector => [vector.contact, vector] as const))(
    'contact %s gives the bytes of the second implementation',
    async (_contact, vector) => {
      const { contact, initiator, responder, kem, expected } = vector
      const facts = { ...vector.facts, broker: decodeHex(vector.facts.broker) }
      const sent = { client: [] as string[], agent: [] as string[] }
      const [clientEnd, agentEnd] = transportPair()
      const [client, agent] = await Promise.all([
        SecureChannel.open({
          transport: noting(clientEnd, sent.client),
          suite: fixed(suite, initiator.e, kem),
          clock: wallClock,
          facts,
          ownerKeys: suite.importKeyPair(decodeHex(initiator.s)),
          agentDh: suite.importKeyPair(decodeHex(responder.s)).publicKey,
          contact:
            contact === 'first' ? { kind: 'first', launchSecret: decodeHex(vector.launchSecret) } : { kind: 'known' },
        }),
        SecureChannel.accept({
          transport: noting(agentEnd, sent.agent),
          suite: fixed(suite, responder.e, kem),
          clock: wallClock,
          facts,
          agentKeys: suite.importKeyPair(decodeHex(responder.s)),
          ownerDh: suite.importKeyPair(decodeHex(initiator.s)).publicKey,
          launchSecret: decodeHex(vector.launchSecret),
        }),
      ])
      for (const i of [0, 1]) {
        client.send(encodeText(`from the client ${i}`))
        agent.send(encodeText(`from the agent ${i}`))
        await agent.receive()
        await client.receive()
      }
      expect(sent.client).toEqual([expected.messages[0], expected.messages[2], ...expected.fromInitiator])
      expect(sent.agent).toEqual([expected.messages[1], ...expected.fromResponder])
      expect(encodeHex(client.bindingHash)).toBe(expected.handshakeHash)
      expect(encodeHex(agent.bindingHash)).toBe(expected.handshakeHash)
      expect(comparisonCode(suite, client.bindingHash)).toMatch(/^([a-z]{3,8} ){5}[a-z]{3,8}$/)
    },
  )
})

test('the comparison code is the same for the same session and another for another', () => {
  const { suite } = BACKENDS.noble
  const [one, two] = vectors.map(vector => comparisonCode(suite, decodeHex(vector.expected.handshakeHash)))
  expect(one).not.toBe(two)
  const again = comparisonCode(BACKENDS.native.suite, decodeHex(vectors[0]?.expected.handshakeHash ?? ''))
  expect(again).toBe(one)
})
