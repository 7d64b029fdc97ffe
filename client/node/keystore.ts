/** Where an identity lives on disk: one file that nobody else can read, never overwritten. */
import type { Suite } from '../../protocol/channel/suite.ts'
import { asMortarError, type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import type { Identity } from '../identity/identity.ts'
import {
  encryptIdentityFile,
  formatIdentityFile,
  isEncryptedIdentity,
  parseIdentityFile,
} from '../identity/identity-file.ts'
import { hasCode, isOurs, readLimited, writeWhole } from './files.ts'

const LARGEST_FILE_BYTES = 8192
const LARGEST_PASSPHRASE_BYTES = 1024
const LINE_FEED = 0x0a
const CARRIAGE_RETURN = 0x0d

/** Writes a new identity; plain without a passphrase (bytes, the caller's to wipe). Fails with identity-exists. */
export async function createIdentityFile(path: string, identity: Identity, passphrase?: Uint8Array): Promise<void> {
  const file = passphrase ? await encryptIdentityFile(identity, passphrase) : formatIdentityFile(identity)
  try {
    await writeWhole(path, file, true)
  } catch (thrown) {
    if (hasCode(thrown, 'EEXIST')) throw new MortarError('identity-exists', path)
    throw thrown
  } finally {
    wipe(file)
  }
}

/**
 * Reads the identity; `askPassphrase` is called when the file needs one, and what it gives is wiped here. Fails with
 * identity-missing, identity-locked, identity-exposed when group or others have any right on the file or it is another user's,
 * identity-invalid.
 */
export async function readIdentityFile(
  suite: Suite,
  path: string,
  askPassphrase: () => Promise<Uint8Array>,
): Promise<Identity> {
  const file = await readSecretFile(path, LARGEST_FILE_BYTES, 'identity-invalid')
  if (!file) throw new MortarError('identity-missing', path)
  let passphrase: Uint8Array | undefined
  try {
    if ((file.mode & 0o077) !== 0) throw new MortarError('identity-exposed', path)
    // who wrote it knows every key of it
    if (!isOurs(file)) throw new MortarError('identity-exposed', `${path} belongs to another user`)
    if (isEncryptedIdentity(file.bytes)) passphrase = await askPassphrase()
    return await parseIdentityFile(suite, file.bytes, passphrase)
  } catch (thrown) {
    const { code, detail } = asMortarError(thrown)
    if (detail.startsWith(path) || (code !== 'identity-invalid' && code !== 'identity-locked')) throw thrown
    throw new MortarError(code, `${path}: ${detail}`, { cause: thrown })
  } finally {
    wipe(file.bytes, passphrase)
  }
}

/** True when there is something at the path. */
export async function identityExists(path: string): Promise<boolean> {
  const file = await readSecretFile(path, LARGEST_FILE_BYTES, 'identity-invalid')
  wipe(file?.bytes)
  return file !== null
}

/** The passphrase in a file: its bytes without the line end at their end. The caller wipes it. Fails with identity-locked. */
export async function readPassphraseFile(path: string): Promise<Uint8Array> {
  const file = await readSecretFile(path, LARGEST_PASSPHRASE_BYTES, 'identity-locked')
  if (!file) throw new MortarError('identity-locked', `there is no file ${path}`)
  let length = file.bytes.length
  if (file.bytes[length - 1] === LINE_FEED) length--
  if (file.bytes[length - 1] === CARRIAGE_RETURN) length--
  if (length === 0) throw new MortarError('identity-locked', `${path} is empty`)
  return file.bytes.subarray(0, length)
}

async function readSecretFile(path: string, limitBytes: number, code: ErrorCode) {
  try {
    return await readLimited(path, limitBytes)
  } catch (thrown) {
    const why = hasCode(thrown, 'EISDIR') ? 'it is a folder' : asMortarError(thrown).detail
    throw new MortarError(code, `${path} cannot be read (${why})`, { cause: thrown })
  }
}
