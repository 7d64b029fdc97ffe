/**
 * Comparison codes, keys that move on, frames and sealed secrets against a second implementation, written from the
 * specification (test/vectors/make-frames.mjs). SPEC §5.3, §6.2, §7.1, §7.3, §7.4
 */
import { describe, expect, test } from 'vitest'
import { CipherState } from '../../protocol/channel/cipher-state.ts'
import { comparisonCode } from '../../protocol/channel/comparison.ts'
import { concat, encodeHex } from '../../protocol/core/bytes.ts'
import { decodeFrames, encodeFrame, type FrameType, frameBytes } from '../../protocol/mux/frame.ts'
import { type Credit, decodeCredit, encodeCredit } from '../../protocol/mux/window.ts'
import { offerSecret, sealToOffer } from '../../protocol/secret-offer.ts'
import { BACKENDS } from '../support/backends.ts'
import { wallClock } from '../support/session-pair.ts'
import { isPrinted, readVectors } from '../support/vector-file.ts'

interface Vectors {
  readonly comparisons: readonly { readonly transcriptHash: Uint8Array; readonly words: string }[]
  readonly movedOn: readonly Readonly<Record<'key' | 'text' | 'first' | 'last' | 'next' | 'afterSecret', Uint8Array>>[]
  readonly frames: readonly {
    readonly type: FrameType
    readonly streamId: number
    readonly flags: number
    readonly body: Uint8Array
    readonly bytes: Uint8Array
  }[]
  readonly credits: readonly (Credit & { readonly body: Uint8Array })[]
  readonly innerSeals: readonly ({ readonly vm: string } & Readonly<
    Record<'transcriptHash' | 'opening' | 'ephemeral' | 'offer' | 'secret' | 'sealed', Uint8Array>
  >)[]
  readonly refusedRecords: Readonly<Record<string, Uint8Array>>
}

const vectors = readVectors<Vectors>('frames')

test('the second implementation prints the file of its vectors', () =>
  expect(isPrinted('frames', 'make-frames.mjs')).toBe(true))

describe.each(Object.entries(BACKENDS))('%s', (_, { suite }) => {
  test('comparison codes are the words of the second implementation', () => {
    for (const { transcriptHash, words } of vectors.comparisons)
      expect(comparisonCode(suite, transcriptHash)).toBe(words)
  })

  test('after 65,536 records and after a secret the key is that of the second implementation', () => {
    for (const { key, text, first, last, next, afterSecret } of vectors.movedOn) {
      const [sending, receiving] = [key, key].map(each => new CipherState(suite.algorithms, each)) as [
        CipherState,
        CipherState,
      ]
      const pass = (expected: Uint8Array) => {
        const sealed = sending.seal(text)
        expect(encodeHex(sealed)).toBe(encodeHex(expected))
        expect(encodeHex(receiving.open(expected))).toBe(encodeHex(text))
      }
      const rekey = () => {
        sending.rekey()
        receiving.rekey()
      }
      pass(first)
      while (sending.counter < 65_535) receiving.open(sending.seal(new Uint8Array(0)))
      pass(last)
      rekey()
      pass(next)
      rekey()
      pass(afterSecret)
    }
  })

  test('a secret is sealed to an offer as the second implementation seals it, and opens', async () => {
    for (const { vm, transcriptHash, opening, ephemeral, offer, secret, sealed } of vectors.innerSeals) {
      const contextOf = (own: Uint8Array) => ({
        suite: { ...suite, generateKeyPair: () => suite.importKeyPair(own) },
        clock: wallClock,
        bindingHash: transcriptHash,
        vm,
      })
      const open = (text: Uint8Array) => {
        const offered = offerSecret(contextOf(offer), opening)
        return offered.open(text).then(encodeHex)
      }
      const { publicKey } = suite.importKeyPair(offer)
      expect(encodeHex(await sealToOffer(contextOf(ephemeral), opening, publicKey, secret))).toBe(encodeHex(sealed))
      expect(await open(sealed)).toBe(encodeHex(secret))
      await expect(open(sealed.with(-1, (sealed.at(-1) ?? 0) ^ 1))).rejects.toMatchObject({ code: 'secret-invalid' })
    }
  })
})

test('frames are written and read as the second implementation writes them, alone and many to a record', () => {
  for (const { bytes, ...frame } of vectors.frames) {
    const record = new Uint8Array(frameBytes(frame))
    expect(encodeFrame(record, 0, frame)).toBe(record.length)
    expect(encodeHex(record)).toBe(encodeHex(bytes))
    expect(decodeFrames(bytes)).toEqual([frame])
  }
  const whole = concat(...vectors.frames.map(({ bytes }) => bytes))
  expect(decodeFrames(whole)).toEqual(vectors.frames.map(({ bytes, ...frame }) => frame))
})

test('credit is written and read as the second implementation writes it', () => {
  for (const { body, ...credit } of vectors.credits) {
    expect(encodeCredit(credit)).toEqual(body)
    expect(decodeCredit(body)).toEqual(credit)
  }
})

test.each(Object.entries(vectors.refusedRecords))('%s is refused', (_, record) => {
  expect(() => decodeFrames(record)).toThrow(expect.objectContaining({ code: 'protocol-violation' }))
})
