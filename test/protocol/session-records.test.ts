/** A direction of a session carries so many records and not one more. SPEC §6.1 */
import { expect, test } from 'vitest'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { agentSign, facts, wallClock } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'

const record = new Uint8Array(16)

/** Encrypts for as long as `until` says so, for a thousand thousand records take too long. */
function idle(until: () => boolean): Suite {
  const aead: Suite['algorithms']['aead'] = key => {
    const real = nativeSuite.algorithms.aead(key)
    return {
      ...real,
      seal: (counter, associated, plaintext) => (until() ? real.seal(counter, associated, plaintext) : record),
      open: (counter, associated, sealed) => (until() ? real.open(counter, associated, sealed) : record),
    }
  }
  return { ...nativeSuite, algorithms: { ...nativeSuite.algorithms, aead } }
}

test('the sender ends before it would pass the limit, and the receiver takes no more', async () => {
  let real = true
  const suite = idle(() => real)
  const [clientEnd, agentEnd] = transportPair()
  // after the handshake both ends are the test's own: nothing is queued
  const bare = (end: Transport): Transport => ({
    ...end,
    send: packet => (real ? end.send(packet) : undefined),
    receive: () => (real ? end.receive() : Promise.resolve(record)),
  })
  const [ownerKeys, agentKeys] = [suite.generateKeyPair(), suite.generateKeyPair()]
  const common = { suite, clock: wallClock, facts }
  const launchSecret = new Uint8Array(32).fill(3)
  const [client, agent] = await Promise.all([
    SecureChannel.open({
      ...common,
      transport: bare(clientEnd),
      ownerKeys,
      agent: { dh: agentKeys.publicKey, sign: agentSign },
      contact: { kind: 'first', launchSecret },
    }),
    SecureChannel.accept({
      ...common,
      transport: bare(agentEnd),
      agentKeys,
      agentSign,
      ownerDh: ownerKeys.publicKey,
      launchSecret,
      admit() {},
    }),
  ])
  real = false
  for (let i = 0; i < LIMITS.sessionRecords; i++) client.send(record)
  expect(() => client.send(record)).toThrow(new MortarError('connection-lost', 'the session is used up'))
  for (let i = 0; i < LIMITS.sessionRecords; i++) await agent.receive()
  await expect(agent.receive()).rejects.toMatchObject({ code: 'record-invalid' })
})
