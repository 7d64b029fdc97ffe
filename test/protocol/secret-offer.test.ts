/** The inner seal of secrets: for one offer, one stream, one session, one minute. SPEC §7.4 */
import { describe, expect, test } from 'vitest'
import { LIMITS } from '../../protocol/core/limits.ts'
import { offerSecret, type SealContext, sealToOffer } from '../../protocol/secret-offer.ts'
import { BACKENDS } from '../support/backends.ts'

const opening = new Uint8Array(40).fill(3)
const secret = () => new Uint8Array(64).fill(9)
let now = 0
const clock = { now: () => now, after: () => () => undefined }
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
    now += LIMITS.offerMs
    expect([...(await inTime.open(sealedInTime))]).toEqual([...secret()])
    const offer = offerSecret(contextOf(opening_), opening)
    const sealed = await sealToOffer(contextOf(sealing), opening, offer.publicKey, secret())
    now += LIMITS.offerMs + 1
    await expect(offer.open(sealed)).rejects.toMatchObject({ code: 'timeout' })
  })

  test.each([0, 31, 47])('%d bytes are no sealed secret', async length => {
    const offer = offerSecret(contextOf(opening_), opening)
    await expect(offer.open(new Uint8Array(length))).rejects.toMatchObject(refused)
  })

  test('an offer that is no key, or of low order, is not sealed to', async () => {
    await expect(sealToOffer(contextOf(sealing), opening, new Uint8Array(32), secret())).rejects.toThrow()
  })
})
