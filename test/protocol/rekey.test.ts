/** Keys move on by Noise's Rekey(): counted, and after each secret; what was recorded before cannot be read with a later key. SPEC §6.2 */
import { expect, test } from 'vitest'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { REKEY_COUNTER, type Suite } from '../../protocol/channel/suite.ts'
import { driveUnlock } from '../../protocol/commands/drives.ts'
import { encodeHex } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { newSecret, wipe } from '../../protocol/core/secret.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { onlyOwner } from '../../protocol/rights.ts'
import { agentSign, facts, sessionPair, wallClock } from '../support/session-pair.ts'
import { transportPair } from '../support/transport-pair.ts'

const NONE = new Uint8Array(0)

/** A suite that tells of each key that records are sealed or opened with. */
function watched(suite: Suite): { suite: Suite; keys: string[] } {
  const keys: string[] = []
  const aead = (key: Uint8Array) => {
    keys.push(encodeHex(key))
    return suite.algorithms.aead(key)
  }
  return { keys, suite: { ...suite, algorithms: { ...suite.algorithms, aead } } }
}

/** Noise revision 34, section 4.2, by hand. */
function rekeyed(hex: string): string {
  const key = Uint8Array.from(Buffer.from(hex, 'hex'))
  return encodeHex(nobleSuite.algorithms.aead(key).seal(REKEY_COUNTER, NONE, new Uint8Array(32)).subarray(0, 32))
}

test('each direction moves its key on after its 65,536th record, and not before', async () => {
  const [client, agent] = [watched(nativeSuite), watched(nativeSuite)]
  const [clientEnd, agentEnd] = transportPair()
  const [ownerKeys, agentKeys] = [nativeSuite.generateKeyPair(), nativeSuite.generateKeyPair()]
  const common = { clock: wallClock, facts }
  const launchSecret = new Uint8Array(32).fill(3)
  const [from, to] = await Promise.all([
    SecureChannel.open({
      ...common,
      transport: clientEnd,
      suite: client.suite,
      ownerKeys,
      agent: { dh: agentKeys.publicKey, sign: agentSign },
      contact: { kind: 'first', launchSecret },
    }),
    SecureChannel.accept({
      ...common,
      transport: agentEnd,
      suite: agent.suite,
      agentKeys,
      agentSign,
      ownerDh: ownerKeys.publicKey,
      launchSecret,
      admit: onlyOwner(),
    }),
  ])
  const before = client.keys.slice()
  const pass = async (records: number) => {
    for (let i = 0; i < records; i++) {
      from.send(new Uint8Array([i & 0xff]))
      expect((await to.receive())?.[0]).toBe(i & 0xff)
    }
  }
  await pass(LIMITS.recordsPerKey - 1)
  expect(client.keys).toEqual(before)
  await pass(1)
  const next = client.keys.slice(before.length)
  expect(next).toHaveLength(1)
  expect(before.map(rekeyed)).toContain(next[0])
  expect(agent.keys.at(-1)).toBe(next[0])
  await pass(10)
  // the other direction counts for itself
  to.send(new Uint8Array([1]))
  expect([...((await from.receive()) ?? [])]).toEqual([1])
  expect(client.keys).toHaveLength(before.length + 1)
})

test('the key moves on after each secret, in the direction of the secret', async () => {
  const [client, agent] = [watched(nobleSuite), watched(nobleSuite)]
  const { session } = await sessionPair({
    suites: { client: client.suite, agent: agent.suite },
    handlers: {
      'drive-unlock': async call => {
        call.accept({})
        wipe(await call.secret())
        call.post('done', { mountPoint: '/drives/data', sizeBytes: 1, freeBytes: 1, readOnly: false })
      },
    },
  })
  for (let time = 0; time < 2; time++) {
    const before = client.keys.slice()
    const call = await session.open(driveUnlock, {
      drive: facts.vm,
      serial: '0123456789abcdef0123',
      headerDigest: new Uint8Array(32),
      mountName: 'data',
      readOnly: false,
    })
    expect(client.keys).toEqual(before)
    await call.sendSecret(newSecret(64))
    for await (const item of call.received()) expect(item.type).toBe('message')
    // the inner seal's key, used once, and the session's next one
    const [inner, next, ...more] = client.keys.slice(before.length)
    expect(more).toEqual([])
    expect(before.map(rekeyed)).toContain(next)
    expect(before.map(rekeyed)).not.toContain(inner)
    expect(agent.keys.slice(-2).sort()).toEqual([inner, next].sort())
  }
  session.close()
})
