/** The identity's derivations, and its file against stock age. The expected values were computed with node:crypto's hkdfSync and OpenSSL's keys. */
import { execFileSync } from 'node:child_process'
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { Identity } from '../../client/identity/identity.ts'
import {
  encryptIdentityFile,
  formatIdentityFile,
  isEncryptedIdentity,
  parseIdentityFile,
} from '../../client/identity/identity-file.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { encodeHex, encodeText } from '../../protocol/core/bytes.ts'
import { describeUnless, missingOf } from '../support/possible.ts'

const seed = Uint8Array.from({ length: 32 }, (_, i) => i + 1)
const identity = Identity.fromSeed(nobleSuite, seed)
const vm = '11111111-1111-4111-8111-111111111111'
const launch = '22222222-2222-4222-8222-222222222222'
const drive = '33333333-3333-4333-8333-333333333333'
/** scrypt's cost in tests: 2^10 */
const QUICK = 10

describe('derivations', () => {
  test('public keys and their text', () => {
    expect(encodeHex(identity.signKey)).toBe('948d34b104abd01edcbabf979e9a41ad9478d16ee48f2a059e1ae97fdeaeccc2')
    expect(encodeHex(identity.keys.publicKey)).toBe('8433ad490138caf6b9bd56a77184df1499d571f6f22bac4dc305b7c016a40877')
    expect(identity.text).toBe(
      'mortar1lI00sQSr0B7cur-XnppBrZR40W7kjyoFnhrpf96uzMKEM61JATjK9rm9VqdxhN8UmdVx9vIrrE3DBbfAFqQIdw',
    )
  })

  test('launch secret, drive key and note key', () => {
    expect(encodeHex(identity.launchSecret(vm, launch))).toBe(
      'd8be76bcb95301061eeb8d36d0b864523361be119836bcf1704b006991ea25cf',
    )
    expect(encodeHex(identity.driveKey(drive, new Uint8Array(32).fill(0xab)))).toBe(
      '0f3083be86355773c6bb360c61030da1c93507b4b2abec0b3dfe74c021acbbc5' +
        'd83b59a397b9dbf61c0f422bd3dcb702ff9b94106c4de317265470f3fc0453b6',
    )
    expect(encodeHex(identity.authenticateNote(encodeText('a message')))).toBe(
      '37bf932170c6a434e5fb75a60b65953fbf1da2b9eec955d7bc123befc5be4211',
    )
  })

  test('another VM, launch, drive or salt gives another secret', () => {
    const salt = new Uint8Array(32)
    const secrets = [
      identity.launchSecret(vm, launch),
      identity.launchSecret(launch, vm),
      identity.launchSecret(vm, drive),
      identity.driveKey(drive, salt).slice(0, 32),
      identity.driveKey(vm, salt).slice(0, 32),
      identity
        .driveKey(
          drive,
          salt.map(() => 1),
        )
        .slice(0, 32),
    ].map(encodeHex)
    expect(new Set(secrets).size).toBe(secrets.length)
  })

  test('a lent seed is gone after use, and a wiped identity is of no use', () => {
    let lent: Uint8Array | undefined
    const short = Identity.fromSeed(nobleSuite, seed)
    short.withSigningSeed(bytes => {
      lent = bytes
      expect(bytes.some(byte => byte !== 0)).toBe(true)
    })
    expect(lent?.every(byte => byte === 0)).toBe(true)
    short.wipe()
    expect(() => short.launchSecret(vm, launch)).toThrow(expect.objectContaining({ code: 'identity-missing' }))
  })
})

describe('the file', () => {
  test('plain: a header line and the seed', async () => {
    const file = formatIdentityFile(identity)
    expect(Buffer.from(file).toString()).toBe(`mortar identity v1\n${encodeHex(seed)}\n`)
    expect((await parseIdentityFile(nobleSuite, file)).text).toBe(identity.text)
  })

  test('encrypted: opens with its passphrase and no other', async () => {
    const file = await encryptIdentityFile(identity, encodeText('correct horse'), QUICK)
    expect(isEncryptedIdentity(file)).toBe(true)
    expect(Buffer.from(file).toString()).not.toContain(encodeHex(seed))
    expect((await parseIdentityFile(nobleSuite, file, encodeText('correct horse'))).text).toBe(identity.text)
    const wrong = parseIdentityFile(nobleSuite, file, encodeText('wrong horse'))
    await expect(wrong).rejects.toMatchObject({ code: 'identity-locked' })
    await expect(parseIdentityFile(nobleSuite, file)).rejects.toMatchObject({ code: 'identity-locked' })
  })

  const plain = `mortar identity v1\n${encodeHex(seed)}\n`
  test.each([
    ['empty', ''],
    ['another header', plain.replace('v1', 'v2')],
    ['a digit short', plain.replace(/.\n$/, '\n')],
    ['a digit long', plain.replace(/\n$/, '0\n')],
    ['not a digit', plain.replace('01', '0g')],
    ['upper case', plain.replace('0a', '0A')],
    ['an age file cut short', '-----BEGIN AGE ENCRYPTED FILE-----\nYWdl\n-----END AGE ENCRYPTED FILE-----\n'],
    ['overlong', `${plain}${' '.repeat(9000)}`],
  ])('refuses a file that is %s', async (_, text) => {
    const parsing = parseIdentityFile(nobleSuite, encodeText(text), encodeText('x'))
    await expect(parsing).rejects.toMatchObject({ code: 'identity-invalid' })
  })

  test('an empty passphrase is refused', async () => {
    await expect(encryptIdentityFile(identity, new Uint8Array(0), QUICK)).rejects.toMatchObject({ code: 'bad-request' })
  })
})

describeUnless(missingOf({ age: 'age', script: 'bsdutils' }), 'stock age', () => {
  let folder = ''
  beforeAll(() => {
    folder = mkdtempSync(join(tmpdir(), 'mortar-age-'))
  })
  afterAll(() => rmSync(folder, { recursive: true }))

  /** age asks for passphrases on a terminal only; `script` gives it one */
  const onTerminal = (command: string, keys: string) =>
    execFileSync('script', ['-qec', command, '/dev/null'], { input: keys, timeout: 30_000 })

  test('recovers the plain file from the encrypted one', async () => {
    const [encrypted, plain] = [join(folder, 'identity'), join(folder, 'plain')]
    writeFileSync(encrypted, await encryptIdentityFile(identity, encodeText('correct horse'), QUICK))
    onTerminal(`age -d -o ${plain} ${encrypted}`, 'correct horse\n')
    expect((await parseIdentityFile(nobleSuite, readFileSync(plain))).text).toBe(identity.text)
  })

  test('makes files that open here, armored and binary', async () => {
    const plain = join(folder, 'mine')
    writeFileSync(plain, formatIdentityFile(identity))
    for (const armor of ['-a', '']) {
      const encrypted = join(folder, `theirs${armor}`)
      onTerminal(`age -p ${armor} -o ${encrypted} ${plain}`, 'correct horse\ncorrect horse\n')
      const parsed = await parseIdentityFile(nobleSuite, readFileSync(encrypted), encodeText('correct horse'))
      expect(parsed.text).toBe(identity.text)
    }
  })
})

test('an identity that was wiped makes no more keys, which would be those of a seed of zeros', () => {
  const identity = Identity.create(nobleSuite)
  identity.wipe()
  const uses = [
    () => identity.launchSecret('vm', 'launch'),
    () => identity.driveKey('drive', new Uint8Array(32)),
    () => identity.authenticateNote(new Uint8Array(1)),
    () => identity.withSigningSeed(seed => seed[0]),
    () => identity.withSeed(seed => seed[0]),
  ]
  for (const use of uses) expect(use).toThrow(expect.objectContaining({ code: 'identity-missing' }))
})
