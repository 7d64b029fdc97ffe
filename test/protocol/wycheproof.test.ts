/** Wycheproof's vectors through our wrappers: what is valid comes out as they say, what is not is refused. */
import { createHash } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { BACKENDS } from '../support/backends.ts'
import { runVectorSet, WYCHEPROOF } from '../support/wycheproof.ts'

const folder = new URL('../vectors/wycheproof/', import.meta.url)

describe.each(Object.entries(BACKENDS))('%s', (name, backend) => {
  test.each(WYCHEPROOF.map(set => [set.name, set] as const))(
    'of the vectors of %s none comes out otherwise than its file says',
    async (_name, set) => {
      const { right, notOurs, wrong } = await runVectorSet(set, backend, name as keyof typeof BACKENDS)
      expect(wrong).toEqual([])
      expect({ right, notOurs }).toEqual({ right: set.count - set.notOurs, notOurs: set.notOurs })
    },
  )
})

test('the runner sees a wrapper that takes what it should refuse, and one that refuses what it should take', async () => {
  const { noble } = BACKENDS
  const trusting = {
    ...noble,
    algorithmsOf: (...names: Parameters<typeof noble.algorithmsOf>) => ({
      ...noble.algorithmsOf(...names),
      aead: () => ({
        seal: (_: number, __: Uint8Array, text: Uint8Array) => text,
        open: () => new Uint8Array(0),
        openSecret: () => new Uint8Array(0),
        wipe() {},
      }),
    }),
  }
  const set = WYCHEPROOF.find(({ name }) => name === 'chacha20_poly1305')
  if (!set) throw new Error('no such set')
  const { right, wrong } = await runVectorSet(set, trusting, 'noble')
  expect(right).toBe(0)
  expect(wrong).toHaveLength(316)
})

test('the files are those that were published, byte for byte', () => {
  const listed = [...readFileSync(new URL('README.md', folder), 'utf8').matchAll(/^\| (\w+\.json) \| (\w{64}) \|/gm)]
  expect(listed).toHaveLength(WYCHEPROOF.length)
  for (const [, file = '', digest] of listed) {
    expect(
      createHash('sha256')
        .update(readFileSync(new URL(file, folder)))
        .digest('hex'),
      file,
    ).toBe(digest)
  }
})
