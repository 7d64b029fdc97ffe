/**
 * The engine of Noise against the published vectors, against those of a second implementation (test/vectors/make-noise.mjs),
 * and each back end against the other. SPEC §5
 */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { Handshake } from '../../protocol/channel/handshake.ts'
import { findPattern, PATTERN_NAMES, parseProtocolName } from '../../protocol/channel/patterns.ts'
import { CIPHERS, HASHES, type HashName, type KeyPair } from '../../protocol/channel/suite.ts'
import { encodeHex } from '../../protocol/core/bytes.ts'
import { BACKENDS } from '../support/backends.ts'
import { nameOf, runVector, vectorsOf } from '../support/noise-vector.ts'

const pathOf = (name: string) => new URL(`../${name}`, import.meta.url).pathname
const fileOf = (name: string) => readFileSync(pathOf(`vectors/${name}`), 'utf8')
const vectors = vectorsOf(fileOf('noise.json'))
const patternVectors = vectorsOf(fileOf('noise-patterns.json'))
const patternOf = (vector: unknown) => parseProtocolName(nameOf(vector)).pattern
const byPattern = Map.groupBy(patternVectors, vector => patternOf(vector).replace(/psk.*/, ''))

test('there are six published vectors', () => expect(vectors).toHaveLength(6))

describe.each(Object.entries(BACKENDS))('%s', (_, backend) => {
  test.each(vectors.map(vector => [nameOf(vector), vector] as const))(
    '%s matches the published vector',
    (_name, vector) => runVector(vector, backend),
  )

  test.each([...byPattern])(
    '%s, with and without psks, gives the bytes of the second implementation',
    async (_name, all) => {
      for (const vector of all) await runVector(vector, backend)
    },
  )

  test.each(vectors.map(vector => [nameOf(vector), vector] as const))(
    '%s with one bit changed does not',
    async (_, vector) => {
      const { messages } = vector as { messages: { ciphertext: string }[] }
      for (const index of messages.keys()) {
        const changed = structuredClone(vector) as { messages: { ciphertext: string }[] }
        const message = changed.messages[index] as { ciphertext: string }
        message.ciphertext = `${message.ciphertext.slice(0, -1)}${(Number.parseInt(message.ciphertext.at(-1) ?? '0', 16) ^ 1).toString(16)}`
        await expect(runVector(changed, backend)).rejects.toThrow(`message ${index + 1}`)
      }
    },
  )
})

test('the second implementation prints the file of its vectors', () => {
  const printed = execFileSync(process.execPath, [pathOf('vectors/make-noise.mjs')], {
    encoding: 'utf8',
    maxBuffer: 2 ** 24,
  })
  expect(printed === fileOf('noise-patterns.json')).toBe(true)
})

test('its vectors have each pattern with each cipher and hash, and each place of a psk with each cipher', () => {
  const names = new Set(patternVectors.map(nameOf))
  const missing = PATTERN_NAMES.flatMap(name => {
    const places = Array.from({ length: findPattern(name).messages.length + 1 }, (_, place) => place)
    const plain = CIPHERS.flatMap(cipher => Object.keys(HASHES).map(hash => `Noise_${name}_25519_${cipher}_${hash}`))
    const withPsk = places.flatMap(place => CIPHERS.map(cipher => `Noise_${name}psk${place}_25519_${cipher}_`))
    return [...plain, ...withPsk].filter(start => ![...names].some(whole => whole.startsWith(start)))
  })
  expect(missing).toEqual([])
})

const XX = vectors.find(vector => patternOf(vector) === 'XX') as Record<string, unknown>
const withPsk = patternVectors.find(vector => patternOf(vector) === 'XXpsk3') as { init_psks: string[] }
const key = '11'.repeat(32)
const { messages } = XX as { messages: { payload: string; ciphertext: string }[] }
const nothing = (...members: string[]) => Object.fromEntries(members.map(member => [member, null]))

/** A protocol's name in the members of noise-c, and none in ours. */
function partsOf(name: string) {
  const [, pattern, dh, cipher, hash] = name.split('_')
  return { protocol_name: null, pattern, dh, cipher, hash }
}

test.each([
  [
    'a psk more than the pattern takes',
    { ...withPsk, init_psks: [...withPsk.init_psks, key] },
    'psks of the initiator: 2',
  ],
  ['a psk at one end only', { ...withPsk, resp_psks: [] }, 'psks of the responder: 0'],
  ['a psk for a pattern without', { ...XX, init_psks: [key], resp_psks: [key] }, 'psks of the initiator: 1'],
  ['a psk for a pattern without, in the older word', { ...XX, resp_psk: key }, 'psks of the responder: 1'],
])('a vector with %s fails', async (_, vector, says) => {
  await expect(runVector(vector, BACKENDS.native)).rejects.toThrow(says)
})

describe('npm run noise-vectors', () => {
  const run = (text: string) => {
    const folder = mkdtempSync(join(tmpdir(), 'mortar-vectors-'))
    const path = join(folder, 'some.json')
    try {
      writeFileSync(path, text)
      const { status, stdout, stderr } = spawnSync(process.execPath, [pathOf('noise-vectors/main.ts'), path], {
        encoding: 'utf8',
      })
      return { status, stdout, stderr: stderr.replace(path, 'FILE') }
    } finally {
      rmSync(folder, { recursive: true })
    }
  }
  const file = (...items: unknown[]) => JSON.stringify({ vectors: items })

  test('runs a file, and counts what fails', () => {
    expect(run(file(XX))).toMatchObject({
      status: 0,
      stderr: '',
      stdout: expect.stringContaining('1 passed, 0 failed'),
    })
    const { status, stdout } = run(file(XX, { ...XX, init_psks: [key] }))
    expect([status, stdout]).toEqual([1, expect.stringContaining('1 passed, 1 failed')])
    expect(stdout).toContain('psks of the initiator: 1, the pattern takes 0')
  })

  test('counts what is malformed, tells which it is and why, and runs the rest', () => {
    const { status, stdout, stderr } = run(
      file(
        7,
        null,
        { ...XX, messages: [] },
        { ...XX, messages: [...messages.slice(0, 2), { payload: '00' }] },
        { ...XX, init_static: 'xy' },
        { ...XX, resp_ephemeral: key.slice(2) },
        { ...withPsk, init_psks: [`${key}11`] },
        { ...XX, protocol_name: 7 },
        { ...XX, protocol_name: 'Noise_XX_448_ChaChaPoly_SHA256', init_static: '11'.repeat(56) },
        { messages },
        { ...XX, protocol_name: 'a\u001b[2J\nb' },
        { ...XX, fallback: true },
        XX,
      ),
    )
    const failed = stdout.split('\n').filter(line => line.startsWith('FAILED'))
    const name = nameOf(XX)
    const says = [
      'a vector without a name: Invalid input: expected object',
      'a vector without a name: Invalid input: expected object',
      `${name}: messages: `,
      `${name}: messages.2.ciphertext: `,
      `${name}: init_static: not bytes in hex`,
      `${name}: resp_ephemeral: needs 32 bytes, has 31`,
      `${nameOf(withPsk)}: init_psks.0: needs 32 bytes, has 33`,
      'a vector without a name: protocol_name: ',
      'Noise_XX_448_ChaChaPoly_SHA256: Noise_XX_448_ChaChaPoly_SHA256 is not a protocol we run',
      'a vector without a name: ',
      'a [2J b: ',
      `${name}: vectors that fall back to another pattern are not run`,
    ]
    for (const [index, line] of failed.entries()) expect(line).toContain(`FAILED  vector ${index + 1}, ${says[index]}`)
    expect([status, stderr, failed.length]).toEqual([1, '', says.length])
    expect(stdout.endsWith(`\n1 passed, ${says.length} failed\n`), stdout).toBe(true)
  })

  test.each([
    ['members that are null', file({ ...XX, ...nothing('handshake_hash', 'init_psks', 'init_remote_static', 'fail') })],
    ['a byte order mark', `\uFEFF${file(XX)}`],
    ['a list alone', JSON.stringify([XX])],
    ['the parts of a name, as noise-c has them', file({ ...XX, ...partsOf(nameOf(XX)), name: 'a test' })],
  ])('takes a file with %s', (_, text) => {
    expect(run(text)).toEqual({ status: 0, stderr: '', stdout: `passed  ${nameOf(XX)}\n1 passed, 0 failed\n` })
  })

  test.each([
    ['no JSON', '{"vectors": [\n', 'FILE: not JSON: '],
    ['no vectors in it', file(), 'FILE: holds no vectors'],
    ['no list of vectors', '{}', 'FILE: not a file of vectors: vectors: '],
    ['something else for a list', '{"vectors": {}}', 'FILE: not a file of vectors: vectors: '],
    ['a word', '"vectors"', 'FILE: not a file of vectors: '],
  ])('refuses a file with %s, in one line', (_, text, says) => {
    const { status, stdout, stderr } = run(text)
    expect([status, stdout]).toEqual([2, ''])
    expect(stderr.startsWith(`noise-vectors: ${says}`), stderr).toBe(true)
    expect(stderr.trimEnd().split('\n')).toHaveLength(1)
  })
})

describe.each(Object.entries(BACKENDS))('with %s', (_, backend) => {
  const otherEnd = { ...XX, init_prologue: 'ff' }
  const last = messages.length

  test.each([
    ['ends that differ', otherEnd, 'message 2: does not authenticate'],
    ['a key that lacks', { ...XX, resp_static: null }, 'message 2: the pattern needs a key that was not given'],
    [
      'a key that both must know lacking',
      { ...XX, protocol_name: 'Noise_XK_25519_ChaChaPoly_SHA256', resp_static: null, init_remote_static: key },
      'responder: the pattern needs a key that was not given',
    ],
    [
      'a public key of low order',
      { ...XX, protocol_name: 'Noise_NK_25519_ChaChaPoly_SHA256', init_remote_static: '00'.repeat(32) },
      'message 1: invalid public key',
    ],
  ])('a vector with %s says at which message, and why', async (_name, vector, says) => {
    await expect(runVector(vector, backend)).rejects.toThrow(new RegExp(`^${says}$`))
  })

  test('a vector that must fail passes when its last message is refused, and only it', async () => {
    const bent = messages.map(({ payload, ciphertext }, index) => ({
      payload,
      ciphertext: index === last - 1 ? ciphertext.replace(/..$/, end => (end === '00' ? '01' : '00')) : ciphertext,
    }))
    await runVector({ ...XX, fail: true, messages: bent }, backend)
    await runVector({ ...otherEnd, fail: true, messages: messages.slice(0, 2), handshake_hash: key }, backend)
    await runVector({ ...XX, fail: true, messages: [{ payload: '', ciphertext: '00' }] }, backend)
    const failing = (vector: object) => expect(runVector({ ...vector, fail: true }, backend)).rejects
    await failing(XX).toThrow(`message ${last}: must be refused, and was read`)
    await failing(otherEnd).toThrow('message 2: does not authenticate')
    await failing({ ...XX, messages: [...bent, ...bent.slice(-1)] }).toThrow(`message ${last}: `)
    await failing({ ...XX, messages: bent, handshake_hash: key }).toThrow('handshake hash')
  })
})

test.each([
  'Noise_XX_448_ChaChaPoly_SHA256',
  'Noise_XX_25519_AESSIV_SHA256',
  'Noise_XY_25519_ChaChaPoly_SHA256',
  'Noise_XX_25519_ChaChaPoly_MD5',
  'XX',
  '',
])('"%s" is not run', name => expect(() => parseProtocolName(name)).toThrow(RangeError))

/** Each base pattern, plain and with a psk at every place it has. */
const withModifiers = PATTERN_NAMES.flatMap(name => {
  const places = findPattern(name).messages.length
  return [name, ...Array.from({ length: places + 1 }, (_, place) => `${name}psk${place}`)]
})

test(`${withModifiers.length} patterns × ciphers × hashes: both back ends write the same bytes and read each other`, async () => {
  const keys = (seed: number) => new Uint8Array(32).fill(seed)
  for (const pattern of withModifiers) {
    for (const [index, cipher] of CIPHERS.entries()) {
      const hash = Object.keys(HASHES)[(pattern.length + index) % 4] as HashName
      const protocolName = `Noise_${pattern}_25519_${cipher}_${hash}`
      const transcripts = []
      for (const [from, to] of [
        [BACKENDS.noble, BACKENDS.native],
        [BACKENDS.native, BACKENDS.noble],
      ] as const) {
        const pair = (secret: number, backend: typeof from | typeof to): KeyPair =>
          backend.suite.importKeyPair(keys(secret))
        const end = (initiator: boolean) => {
          const backend = initiator ? from : to
          const [mine, ephemeral, theirs] = initiator ? [1, 2, 3] : [3, 4, 1]
          return new Handshake({
            suite: backend.suite,
            algorithms: backend.algorithmsOf(cipher, hash),
            protocolName,
            initiator,
            prologue: keys(9),
            staticKeys: pair(mine, backend),
            ephemeralKeys: pair(ephemeral, backend),
            remoteStatic: pair(theirs, backend).publicKey,
            psks: [keys(7)],
          })
        }
        const [initiator, responder] = [end(true), end(false)]
        const seen: string[] = []
        const { oneWay } = findPattern(pattern)
        for (let turn = 0; !initiator.complete; turn++) {
          const [sender, receiver] = oneWay || turn % 2 === 0 ? [initiator, responder] : [responder, initiator]
          const message = await sender.write(keys(turn))
          seen.push(encodeHex(message))
          expect(encodeHex(await receiver.read(message))).toBe(encodeHex(keys(turn)))
        }
        const [first, second] = [initiator.split(), responder.split()]
        const sealed = first.sending.seal(keys(5))
        expect(encodeHex(second.receiving.open(sealed))).toBe(encodeHex(keys(5)))
        transcripts.push([...seen, encodeHex(sealed), encodeHex(first.hash)].join())
      }
      expect(transcripts[0], protocolName).toBe(transcripts[1])
    }
  }
})
