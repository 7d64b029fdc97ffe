/** No key seals twice under one nonce, in the short form of `npm run nightly`; and the proof that the counter would see it. */
import { expect, test } from 'vitest'
import { CipherState } from '../../protocol/channel/cipher-state.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { countingSuite, runNonces } from '../nightly/nonces.ts'

test('of 20,000 records of several senders at once, with secrets among them, no two have one key and nonce', async () => {
  const { records, keys, repeated } = await runNonces(20_000)
  expect(records).toBeGreaterThanOrEqual(20_000)
  expect(keys).toBeGreaterThan(4)
  expect(repeated).toBe(0)
})

test('a second sender with the key of the first is seen', () => {
  const { suite, counts } = countingSuite(nativeSuite)
  const key = new Uint8Array(32).fill(1)
  const [one, two] = [new CipherState(suite.algorithms, key), new CipherState(suite.algorithms, key)]
  one.seal(key)
  expect(counts().repeated).toBe(0)
  two.seal(key)
  expect(counts()).toMatchObject({ seals: 2, keys: 1, repeated: 1 })
})
