/**
 * The note that the broker keeps with a drive and cannot use: the salt of the drive's key and the digest of its LUKS
 * header, authenticated by the owner's identity, so that a host that changes either is noticed. SPEC §2.3
 */
import type { z } from 'zod'
import { decodeBase64url, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { bytes, object, z as zod } from '../../protocol/core/schema.ts'
import { DRIVE_SALT_BYTES, type Identity } from '../identity/identity.ts'

const LARGEST_NOTE_BYTES = 1536

const noteSchema = object({
  version: zod.literal(1),
  salt: bytes(DRIVE_SALT_BYTES),
  /** SHA-256 of the LUKS header area; null until the drive is formatted */
  headerDigest: bytes(32).nullable(),
  mac: bytes(32),
})
export type DriveNote = Pick<z.output<typeof noteSchema>, 'salt' | 'headerDigest'>

/** The note as text for the broker, at most 2048 characters. */
export function sealDriveNote(identity: Identity, drive: string, { salt, headerDigest }: DriveNote): string {
  const mac = identity.authenticateNote(encodeCbor({ drive, salt, headerDigest }))
  return encodeBase64url(encodeCbor({ version: 1, salt, headerDigest, mac }))
}

/** Reads a note. Fails with drive-note when it is not what this identity wrote for this drive. */
export function openDriveNote(identity: Identity, drive: string, note: string): DriveNote {
  let encoded: Uint8Array
  try {
    encoded = decodeBase64url(note)
  } catch (cause) {
    throw new MortarError('drive-note', drive, { cause })
  }
  const { salt, headerDigest, mac } = decodeCbor(noteSchema, encoded, LARGEST_NOTE_BYTES, 'drive-note')
  const expected = identity.authenticateNote(encodeCbor({ drive, salt, headerDigest }))
  if (!equalBytes(expected, mac)) throw new MortarError('drive-note', drive)
  return { salt, headerDigest }
}
