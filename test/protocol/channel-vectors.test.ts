/**
 * The channel against a second implementation of its handshake and records, written from the specification
 * (test/vectors/second-channel.mjs). SPEC §5, §6
 */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { describe, expect, test } from 'vitest'
import { bootKeys } from '../../agent/boot/boot-keys.ts'
import { Identity } from '../../client/identity/identity.ts'
import { channelPsk } from '../../protocol/channel/derive.ts'
import { decodeHex, encodeHex } from '../../protocol/core/bytes.ts'
import { BACKENDS } from '../support/backends.ts'
import { type Change, type ChannelVector, replayToAgent, runChannelVector } from '../support/channel-vector.ts'

const pathOf = (name: string) => new URL(`../vectors/${name}`, import.meta.url).pathname
const file = readFileSync(pathOf('channel.json'), 'utf8')
const { vectors } = JSON.parse(file) as { vectors: ChannelVector[] }
const named = vectors.map(vector => [vector.name, vector] as const)
const [first, known, granted] = ['first contact 1', 'known contact 1', 'grant as user, two permissions'].map(name =>
  vectors.find(vector => vector.name === name),
) as [ChannelVector, ChannelVector, ChannelVector]

test('the second implementation prints the file of its vectors', () => {
  expect(vectors.length).toBeGreaterThanOrEqual(20)
  expect(execFileSync(process.execPath, [pathOf('make-channel.mjs')], { encoding: 'utf8' }) === file).toBe(true)
})

describe.each(Object.entries(BACKENDS))('%s', (_, { suite }) => {
  test.each(named)('%s: gives the bytes of the second implementation', (_name, vector) =>
    runChannelVector(vector, suite),
  )

  test.each(named)('%s: static keys and psk are derived as the second implementation does', (_name, vector) => {
    const { initiator, responder, kem, launchSecret, contact, expected } = vector
    const publicOf = (secret: string) => suite.importKeyPair(decodeHex(secret)).publicKey
    expect(Identity.fromSeed(suite, decodeHex(initiator.seed)).keys.publicKey).toEqual(publicOf(initiator.s))
    const boot = bootKeys(suite, { read: () => decodeHex(responder.seed), write: () => true })
    expect(boot.dh.publicKey).toEqual(publicOf(responder.s))
    const secret = contact === 'first' ? decodeHex(launchSecret) : null
    const psk = channelPsk(suite, decodeHex(expected.prologue), decodeHex(kem.secret), secret)
    expect(encodeHex(psk)).toBe(expected.psk)
  })

  const other = '5'.repeat(64)
  const { facts } = first
  test.each<[string, ChannelVector, Change]>([
    ['of another broker', first, { facts: { ...facts, broker: other } }],
    ['of another VM', first, { facts: { ...facts, vm: facts.launch } }],
    ['of another launch', first, { facts: { ...facts, launch: facts.vm } }],
    ['of another session', first, { facts: { ...facts, session: facts.vm } }],
    ['with another launch secret', first, { launchSecret: other }],
    ['of somebody else than the owner, without a grant', first, { ownerDh: other }],
    ['of somebody else than the owner, at known contact', known, { ownerDh: other }],
    [
      'of the owner with a grant',
      granted,
      { ownerDh: encodeHex(suite.importKeyPair(decodeHex(granted.initiator.s)).publicKey) },
    ],
  ])('a client %s is refused', async (_what, vector, change) => {
    await replayToAgent(vector, suite, {})
    await expect(replayToAgent(vector, suite, change)).rejects.toMatchObject({ code: 'handshake' })
  })

  test.each([0, 2])('message %i of the second implementation with any byte changed is refused', async index => {
    const message = first.expected.messages[index] ?? ''
    for (let at = 0; at < message.length; at += index === 0 ? 98 : 2) {
      const messages = [...first.expected.messages]
      const digit = (Number.parseInt(message[at] ?? '', 16) ^ 1).toString(16)
      messages[index] = message.slice(0, at) + digit + message.slice(at + 1)
      const changed = { ...first, expected: { ...first.expected, messages } }
      await expect(replayToAgent(changed, suite, {}), `byte ${at / 2}`).rejects.toMatchObject({ code: 'handshake' })
    }
  })

  test('a byte that the second implementation did not expect is noticed', async () => {
    const messages = [...first.expected.messages]
    messages[2] = `00${messages[2]?.slice(2)}`
    const changed = { ...first, expected: { ...first.expected, messages } }
    await expect(runChannelVector(changed, suite)).rejects.toThrow('message 3')
  })
})
