/** What the ends take for a handshake message: its length, its payload's shape, and the grant in it. SPEC §5 */
import { afterEach, describe, expect, test, vi } from 'vitest'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { type Caller, SecureChannel } from '../../protocol/channel/secure-channel.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { z } from '../../protocol/core/schema.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { bothEnds } from '../support/bare-end.ts'

afterEach(() => {
  vi.restoreAllMocks()
})

type Payload = Record<string, unknown>
const bytes = (length: number) => new Uint8Array(length).fill(1)

/** Sends another payload in message `number` (from 1), rightly sealed: only its shape is wrong. */
function bendPayload(number: number, bend: (payload: Payload) => unknown): void {
  const write = Handshake.prototype.write
  let written = 0
  vi.spyOn(Handshake.prototype, 'write').mockImplementation(function (this: Handshake, payload: Uint8Array) {
    if (++written !== number) return write.call(this, payload)
    return write.call(this, encodeCbor(bend(decodeCbor(z.unknown(), payload, 4_096, 'internal') as Payload)))
  })
}

/** Both ends shake hands; what each ended with, and whom the agent was asked to let in. */
async function shake(client: Partial<Parameters<typeof SecureChannel.open>[0]> = {}, strangerAtDoor = false) {
  const ends = bothEnds({ suite: nativeSuite })
  const callers: Caller[] = []
  const results = await Promise.allSettled([
    SecureChannel.open({ ...ends.client, ...client }),
    SecureChannel.accept({
      ...ends.agent,
      ...(strangerAtDoor && { ownerDh: bytes(32) }),
      admit: caller => void callers.push(caller),
    }),
  ])
  const [opened, accepted] = results.map(result => (result.status === 'fulfilled' ? 'done' : result.reason.code))
  return { opened, accepted, callers }
}

test('a payload that is not bent is taken', async () => {
  for (const message of [1, 2, 3]) {
    bendPayload(message, payload => payload)
    expect(await shake()).toMatchObject({ opened: 'done', accepted: 'done', callers: [{ kind: 'owner' }] })
    vi.restoreAllMocks()
  }
})

describe.each<[number, Record<string, (payload: Payload) => unknown>]>([
  [
    1,
    {
      'version 0': payload => ({ ...payload, version: 0 }),
      'version 2': payload => ({ ...payload, version: 2 }),
      'no version': ({ version: _, ...payload }) => payload,
      'another contact': payload => ({ ...payload, contact: 'last' }),
      'a shorter key': payload => ({ ...payload, kem: bytes(1_183) }),
      'a longer key': payload => ({ ...payload, kem: bytes(1_185) }),
      'a stranger': payload => ({ ...payload, more: 1 }),
      'no map': () => [],
    },
  ],
  [
    2,
    {
      'a shorter ciphertext': payload => ({ ...payload, kem: bytes(1_087) }),
      'a longer ciphertext': payload => ({ ...payload, kem: bytes(1_089) }),
      'no ciphertext': ({ kem: _, ...payload }) => payload,
      'a shorter Ed25519 key': payload => ({ ...payload, sign: bytes(31) }),
      'no Ed25519 key': ({ sign: _, ...payload }) => payload,
      'more evidence than there may be': payload => ({ ...payload, evidence: bytes(LIMITS.evidenceBytes + 1) }),
      'a stranger': payload => ({ ...payload, more: 1 }),
    },
  ],
  [
    3,
    {
      'a grant that is text': () => ({ grant: 'x' }),
      'a stranger': () => ({ more: 1 }),
      'no map': () => null,
    },
  ],
])('message %d', (message, bends) => {
  test.each(Object.entries(bends))('with %s is refused', async (_name, bend) => {
    bendPayload(message, bend)
    const { opened, accepted, callers } = await shake()
    expect(message === 2 ? opened : accepted).toBe('handshake')
    expect(callers).toEqual([])
  })
})

test('evidence in message 2 is taken up to its limit, and another Ed25519 key is told as what it is', async () => {
  bendPayload(2, payload => ({ ...payload, evidence: bytes(LIMITS.evidenceBytes) }))
  expect(await shake()).toMatchObject({ opened: 'done' })
  vi.restoreAllMocks()
  bendPayload(2, payload => ({ ...payload, sign: bytes(32) }))
  expect(await shake()).toMatchObject({ opened: 'agent-key-mismatch' })
})

test('a grant in message 3 is as long as the limit and no longer', async () => {
  const contact = { kind: 'known' } as const
  const taken = await shake({ contact, grant: bytes(LIMITS.grantBytes) }, true)
  expect(taken.accepted).toBe('done')
  expect(taken.callers).toMatchObject([{ kind: 'grantee', grant: bytes(LIMITS.grantBytes) }])
  const refused = await shake({ contact, grant: bytes(LIMITS.grantBytes + 1) }, true)
  expect(refused).toMatchObject({ accepted: 'handshake', callers: [] })
})

/** A suite that counts what was computed with it. */
function counting(suite: Suite) {
  const computed = { times: 0 }
  const count = <A extends unknown[], R>(run: (...args: A) => R) => {
    return (...args: A): R => {
      computed.times++
      return run(...args)
    }
  }
  const { hash, hmac, aead } = suite.algorithms
  const counted: Suite = {
    ...suite,
    algorithms: {
      ...suite.algorithms,
      hash: count(hash),
      hmac: count(hmac),
      aead: key => {
        const made = aead(key)
        return { ...made, open: count(made.open) }
      },
    },
  }
  return { counted, computed }
}

/** An end that sends what it is given in place of its packet number `index`. */
const instead = (end: Transport, index: number, packet: Uint8Array): Transport => {
  let sent = 0
  return { ...end, send: own => end.send(sent++ === index ? packet : own) }
}

describe('a handshake packet above 4,096 bytes is refused before anything is computed on it', () => {
  const { handshakeBytes } = LIMITS
  const looked = async (length: number, message: 1 | 2 | 3) => {
    const { counted, computed } = counting(nativeSuite)
    const ends = bothEnds({ suite: nativeSuite })
    const reader = message === 2 ? ends.client : ends.agent
    const writer = message === 2 ? ends.agent : ends.client
    let before = 0
    const receive = reader.transport.receive
    const transport: Transport = {
      ...reader.transport,
      async receive() {
        const packet = await receive()
        before = computed.times
        return packet
      },
    }
    const others = instead(writer.transport, message === 3 ? 1 : 0, bytes(length))
    const own = { suite: counted, transport }
    const [opened, accepted] = await Promise.allSettled([
      SecureChannel.open({ ...ends.client, ...(message === 2 ? own : { transport: others }) }),
      SecureChannel.accept({ ...ends.agent, ...(message === 2 ? { transport: others } : own) }),
    ])
    expect(message === 2 ? opened : accepted).toMatchObject({ status: 'rejected', reason: { code: 'handshake' } })
    return computed.times - before
  }

  test.each([1, 2, 3] as const)('message %d', async message => {
    expect(await looked(handshakeBytes, message)).toBeGreaterThan(0)
    expect(await looked(handshakeBytes + 1, message)).toBe(0)
  })
})
