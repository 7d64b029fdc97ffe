/** The inner seal of secrets: for one offer, one stream, one session, one minute. SPEC §7.4 */
import { describe, expect, test } from 'vitest'
import type { ClientCall } from '../../protocol/call.ts'
import { driveFormat } from '../../protocol/commands/drives.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { offerSecret, type SealContext, sealToOffer } from '../../protocol/secret-offer.ts'
import { BACKENDS } from '../support/backends.ts'
import { recordingSuite } from '../support/recording-suite.ts'
import { type noHandlers, sessionPair } from '../support/session-pair.ts'
import { StillClock, settled } from '../support/still-clock.ts'

const opening = new Uint8Array(40).fill(3)
const secret = () => new Uint8Array(64).fill(9)
const clock = new StillClock()
const refused = { code: 'secret-invalid' }

describe.each([
  ['noble seals, native opens', BACKENDS.noble.suite, BACKENDS.native.suite],
  ['native seals, noble opens', BACKENDS.native.suite, BACKENDS.noble.suite],
])('%s', (_, sealing, opening_) => {
  const contextOf = (suite: SealContext['suite'], more: Partial<SealContext> = {}): SealContext => ({
    suite,
    clock,
    bindingHash: new Uint8Array(32).fill(1),
    vm: '11111111-1111-4111-8111-111111111111',
    ...more,
  })

  test('a secret arrives, once', async () => {
    const offer = offerSecret(contextOf(opening_), opening)
    const sealed = await sealToOffer(contextOf(sealing), opening, offer.publicKey, secret())
    expect(sealed).toHaveLength(32 + 64 + 16)
    expect([...(await offer.open(sealed))]).toEqual([...secret()])
    await expect(offer.open(sealed)).rejects.toMatchObject(refused)
  })

  test('another offer, session, VM or stream, and any bit changed, is refused', async () => {
    const sealFor = (offer: Uint8Array, more: Partial<SealContext> = {}, open = opening) =>
      sealToOffer(contextOf(sealing, more), open, offer, secret())
    const other = offerSecret(contextOf(opening_), opening)
    const wrong = [
      () => sealFor(other.publicKey),
      (offer: Uint8Array) => sealFor(offer, { bindingHash: new Uint8Array(32) }),
      (offer: Uint8Array) => sealFor(offer, { vm: '22222222-2222-4222-8222-222222222222' }),
      (offer: Uint8Array) => sealFor(offer, {}, new Uint8Array(40)),
    ]
    for (const seal of wrong) {
      const offer = offerSecret(contextOf(opening_), opening)
      await expect(offer.open(await seal(offer.publicKey))).rejects.toMatchObject(refused)
    }
    for (let bit = 0; bit < 8 * 112; bit += 7) {
      const offer = offerSecret(contextOf(opening_), opening)
      const sealed = await sealFor(offer.publicKey)
      sealed[bit >> 3] = (sealed[bit >> 3] as number) ^ (1 << (bit & 7))
      await expect(offer.open(sealed), `bit ${bit}`).rejects.toMatchObject(refused)
    }
  })

  test('an offer is taken for a minute and no longer', async () => {
    const inTime = offerSecret(contextOf(opening_), opening)
    const sealedInTime = await sealToOffer(contextOf(sealing), opening, inTime.publicKey, secret())
    clock.advance(LIMITS.offerMs - 1)
    expect([...(await inTime.open(sealedInTime))]).toEqual([...secret()])
    const offer = offerSecret(contextOf(opening_), opening)
    const sealed = await sealToOffer(contextOf(sealing), opening, offer.publicKey, secret())
    clock.advance(LIMITS.offerMs)
    await expect(offer.open(sealed)).rejects.toMatchObject({ code: 'timeout' })
  })

  test('an offer is refused after a minute even where its timer is late', async () => {
    let now = 0
    const stopped = { now: () => now, after: () => () => undefined }
    const offer = offerSecret(contextOf(opening_, { clock: stopped }), opening)
    const sealed = await sealToOffer(contextOf(sealing), opening, offer.publicKey, secret())
    now = LIMITS.offerMs
    await expect(offer.open(sealed)).rejects.toMatchObject({ code: 'timeout' })
  })

  test.each([0, 31, 47])('%d bytes are no sealed secret', async length => {
    const offer = offerSecret(contextOf(opening_), opening)
    await expect(offer.open(new Uint8Array(length))).rejects.toMatchObject(refused)
    const sealed = await sealToOffer(contextOf(sealing), opening, offer.publicKey, secret())
    await expect(offer.open(sealed)).rejects.toMatchObject(refused)
  })

  test('an offer that is no key, or of low order, is not sealed to', async () => {
    await expect(sealToOffer(contextOf(sealing), opening, new Uint8Array(32), secret())).rejects.toThrow()
  })
})

/** A session whose agent formats drives so; with what it holds of keys and timers since. */
async function served(handler: (typeof noHandlers)['drive-format']) {
  const clock = new StillClock()
  const agent = recordingSuite(BACKENDS.native.suite)
  const told: string[] = []
  const { session, faults } = await sessionPair({
    clock,
    suites: { client: BACKENDS.native.suite, agent: agent.suite },
    handlers: {
      'drive-format': call => {
        call.signal.addEventListener('abort', () => told.push(call.signal.reason.code))
        return handler(call, undefined)
      },
    },
  })
  const now = () => ({ keys: agent.left().filter(name => name === 'key pair').length, timers: clock.waiting })
  const before = now()
  const left = () => ({ keys: now().keys - before.keys, timers: now().timers - before.timers })
  const params = { drive: '11111111-1111-4111-8111-111111111111', serial: '0'.repeat(20), label: 'x', erase: false }
  return { session, open: () => session.open(driveFormat, params), clock, faults, told, left }
}

const takeSecret: (typeof noHandlers)['drive-format'] = async call => {
  call.accept({})
  expect([...(await call.secret())]).toEqual([...secret()])
  call.post('done', { headerDigest: new Uint8Array(32) })
}

async function codeOf(call: ClientCall<typeof driveFormat>): Promise<string> {
  try {
    for await (const item of call.received()) expect(item).toMatchObject({ name: 'done' })
    return 'done'
  } catch (thrown) {
    return (thrown as { code: string }).code
  }
}

describe('a call that waits for its secret', () => {
  const none = { keys: 0, timers: 0 }

  test('ends after a minute with timeout at both ends, and its key is wiped at that moment', async () => {
    const { session, open, clock, faults, told, left } = await served(takeSecret)
    const call = await open()
    await clock.pass(LIMITS.offerMs - 1, 10_000)
    expect([left(), told, call.signal.aborted]).toEqual([{ keys: 1, timers: 1 }, [], false])
    clock.advance(1)
    expect([left(), told]).toEqual([none, ['timeout']])
    await settled()
    expect(await codeOf(call)).toBe('timeout')
    expect(faults).toEqual([['drive-format', 'timeout']])
    expect(session.over).toBe(false)
    session.close()
  })

  test('waits no longer once the secret came, however long the rest takes', async () => {
    const rest = Promise.withResolvers<void>()
    const { session, open, clock, told, left } = await served(async serving => {
      serving.accept({})
      await serving.secret()
      await rest.promise
      serving.post('done', { headerDigest: new Uint8Array(32) })
    })
    const call = await open()
    await clock.pass(LIMITS.offerMs - 1, 10_000)
    await call.sendSecret(secret())
    await settled()
    expect(left()).toEqual(none)
    await clock.pass(LIMITS.offerMs, 10_000)
    rest.resolve()
    expect([await codeOf(call), told]).toEqual(['done', []])
    session.close()
  })

  test.each<[string, typeof takeSecret, (call: ClientCall<typeof driveFormat>) => void]>([
    ['the client resets it', takeSecret, call => call.reset('going-away')],
    ['the client ends it', takeSecret, call => call.end()],
    ['another message comes', takeSecret, call => call.post('stranger' as never, {} as never)],
    [
      'its handler fails',
      async call => {
        call.accept({})
        throw new Error('no')
      },
      () => {},
    ],
  ])('leaves neither key nor timer when %s', async (_name, handler, end) => {
    const { session, open, left } = await served(handler)
    end(await open())
    await settled()
    expect(left()).toEqual(none)
    session.close()
  })

  test('leaves neither when its session ends, before it was accepted or after', async () => {
    const gate = Promise.withResolvers<void>()
    const { session, open, clock, left } = await served(async call => {
      await gate.promise
      await takeSecret(call, undefined)
    })
    const opening = open().catch((error: { code: string }) => error.code)
    await settled()
    session.close()
    await settled()
    gate.resolve()
    await settled()
    expect([await opening, left().keys, clock.waiting]).toEqual(['going-away', 0, 0])
    const other = await served(takeSecret)
    await other.open()
    other.session.close()
    await settled()
    expect([other.left().keys, other.clock.waiting]).toEqual([0, 0])
  })
})
