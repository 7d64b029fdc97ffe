/** The channel against a second implementation of its handshake, written from the specification (test/vectors/make-channel.mjs). SPEC §5, §5.3 */
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { BACKENDS } from '../support/backends.ts'
import { type ChannelVector, runChannelVector } from '../support/channel-vector.ts'

const { vectors } = JSON.parse(readFileSync(new URL('../vectors/channel.json', import.meta.url), 'utf8')) as {
  vectors: ChannelVector[]
}

describe.each(Object.entries(BACKENDS))('%s', (_, { suite }) => {
  test.each(vectors.map(vector => [vector.contact, vector] as const))(
    'contact %s gives the bytes of the second implementation',
    async (_contact, vector) => {
      expect(await runChannelVector(vector, suite)).toMatch(/^([a-z]{3,8} ){5}[a-z]{3,8}$/)
    },
  )

  test('a byte that the second implementation did not expect is noticed', async () => {
    const vector = structuredClone(vectors[0]) as { expected: { messages: string[] } } & ChannelVector
    vector.expected.messages[2] = `00${vector.expected.messages[2]?.slice(2)}`
    await expect(runChannelVector(vector, suite)).rejects.toThrow('from the client')
  })
})

test('the comparison code is the same for the same session and another for another', async () => {
  const codes = await Promise.all(vectors.map(vector => runChannelVector(vector, BACKENDS.noble.suite)))
  expect(new Set(codes).size).toBe(vectors.length)
  const [first] = vectors
  expect(first && (await runChannelVector(first, BACKENDS.native.suite))).toBe(codes[0])
})
