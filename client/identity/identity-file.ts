/**
 * The identity file: a header line and the seed in hex, either plain or encrypted with a passphrase in the age format
 * (armored), so that stock `age -d` recovers the plain one.
 *
 *     mortar identity v1 LF  64 hexadecimal digits LF
 */
import { armor, Decrypter, Encrypter } from 'age-encryption'
import type { Suite } from '../../protocol/channel/suite.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { newSecret, wipe } from '../../protocol/core/secret.ts'
import { Identity, SEED_BYTES } from './identity.ts'

const HEADER = encodeText('mortar identity v1\n')
const FILE_BYTES = HEADER.length + 2 * SEED_BYTES + 1
const AGE_BINARY = 'age-encryption.org/'
const AGE_ARMOR = '-----BEGIN AGE ENCRYPTED FILE-----'
const LARGEST_FILE_BYTES = 8192
const LARGEST_PASSPHRASE_BYTES = 1024
const LINE_FEED = 0x0a
const DIGITS = encodeText('0123456789abcdef')

/** True when the file needs a passphrase. */
export function isEncryptedIdentity(file: Uint8Array): boolean {
  return startsWith(file, encodeText(AGE_BINARY)) || startsWith(file, encodeText(AGE_ARMOR))
}

/** The plain file. It is a secret: the caller wipes it and keeps it where nobody else can read it. */
export function formatIdentityFile(identity: Identity): Uint8Array {
  return identity.withSeed(seed => {
    const file = newSecret(FILE_BYTES)
    file.set(HEADER)
    seed.forEach((byte, i) => {
      file[HEADER.length + 2 * i] = DIGITS[byte >> 4] as number
      file[HEADER.length + 2 * i + 1] = DIGITS[byte & 15] as number
    })
    file[FILE_BYTES - 1] = LINE_FEED
    return file
  })
}

/**
 * The file encrypted with a passphrase (UTF-8, 1 to 1024 bytes, the caller's to wipe). `workFactor`: log2 of scrypt's
 * cost, age's own 18 unless given. Fails with bad-request for an empty or overlong passphrase.
 */
export async function encryptIdentityFile(
  identity: Identity,
  passphrase: Uint8Array,
  workFactor = 18,
): Promise<Uint8Array> {
  requirePassphrase(passphrase)
  const plain = formatIdentityFile(identity)
  try {
    const encrypter = new Encrypter()
    encrypter.setPassphrase(asBytes(passphrase))
    encrypter.setScryptWorkFactor(workFactor)
    return encodeText(armor.encode(await encrypter.encrypt(plain)))
  } finally {
    wipe(plain)
  }
}

/**
 * Reads an identity file of either form. Fails with identity-locked when the passphrase is absent or wrong, and with
 * identity-invalid when the file is no identity file.
 */
export async function parseIdentityFile(suite: Suite, file: Uint8Array, passphrase?: Uint8Array): Promise<Identity> {
  if (file.length > LARGEST_FILE_BYTES) throw new MortarError('identity-invalid', 'the identity file is too long')
  if (!isEncryptedIdentity(file)) return parsePlain(suite, file)
  if (!passphrase) throw new MortarError('identity-locked')
  if (passphrase.length === 0) throw new MortarError('identity-locked', 'the passphrase is empty')
  requirePassphrase(passphrase)
  const plain = await decrypt(file, passphrase)
  try {
    return parsePlain(suite, plain)
  } finally {
    wipe(plain)
  }
}

async function decrypt(file: Uint8Array, passphrase: Uint8Array): Promise<Uint8Array> {
  try {
    const binary = startsWith(file, encodeText(AGE_ARMOR)) ? armor.decode(decodeText(file)) : file
    const decrypter = new Decrypter()
    decrypter.addPassphrase(asBytes(passphrase))
    return await decrypter.decrypt(binary)
  } catch (cause) {
    const wrong = cause instanceof Error && /no identity matched/.test(cause.message)
    if (wrong) throw new MortarError('identity-locked', 'the passphrase is wrong', { cause })
    throw new MortarError('identity-invalid', 'the encrypted identity file is damaged', { cause })
  }
}

function parsePlain(suite: Suite, file: Uint8Array): Identity {
  const ended = file.length === FILE_BYTES && file[FILE_BYTES - 1] === LINE_FEED
  if (!startsWith(file, HEADER) || !(ended || file.length === FILE_BYTES - 1)) {
    throw new MortarError('identity-invalid', 'this is not an identity file')
  }
  const seed = newSecret(SEED_BYTES)
  try {
    for (let i = 0; i < SEED_BYTES; i++) {
      const high = DIGITS.indexOf(file[HEADER.length + 2 * i] as number)
      const low = DIGITS.indexOf(file[HEADER.length + 2 * i + 1] as number)
      if (high < 0 || low < 0) throw new MortarError('identity-invalid', 'the identity file is damaged')
      seed[i] = 16 * high + low
    }
    return Identity.fromSeed(suite, seed)
  } finally {
    wipe(seed)
  }
}

function requirePassphrase(passphrase: Uint8Array): void {
  if (passphrase.length === 0) throw new MortarError('bad-request', 'the passphrase is empty')
  if (passphrase.length > LARGEST_PASSPHRASE_BYTES) throw new MortarError('bad-request', 'the passphrase is too long')
}

/** age's types ask for a string, but its scrypt takes bytes too, which unlike a string can be wiped. */
const asBytes = (passphrase: Uint8Array) => passphrase as unknown as string

function startsWith(bytes: Uint8Array, start: Uint8Array): boolean {
  return bytes.length >= start.length && start.every((byte, i) => bytes[i] === byte)
}
