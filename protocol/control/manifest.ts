/** The brick manifest: what a builder says of an image, signed. The broker checks it before it imports a brick. SPEC §2.5 */
import type { z } from 'zod'
import { decodeBase64url, encodeBase64url, encodeText } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { base64urlOf, name, object, text, uint, z as zod } from '../core/schema.ts'
import { sign, signingPublicKey, verify } from '../core/signing.ts'

const LABEL = 'mortar brick manifest v1'

const statementShape = {
  format: zod.literal(1),
  name,
  version: text(64),
  /** bytes of the image file, and of the disk that a VM sees */
  sizeBytes: uint(),
  virtualSizeBytes: uint(),
  /** SHA-256 of the image file, hex */
  sha256: zod.string().regex(/^[0-9a-f]{64}$/),
  agentVersion: text(64),
  /** ISO 8601, UTC */
  createdAt: text(40),
  /** Ed25519 public key of the builder */
  builder: base64urlOf(32),
}
const statementSchema = object(statementShape)
const manifestSchema = object({ ...statementShape, signature: base64urlOf(64) })
export type ManifestStatement = z.output<typeof statementSchema>
export type Manifest = z.output<typeof manifestSchema>

/** Signs a manifest; `builder` is set from the seed (32 bytes). */
export function signManifest(statement: Omit<ManifestStatement, 'builder'>, seed: Uint8Array): Manifest {
  const whole = statementSchema.parse({ ...statement, builder: encodeBase64url(signingPublicKey(seed)) })
  return { ...whole, signature: encodeBase64url(sign(LABEL, signedBytes(whole), seed)) }
}

/** Reads the manifest's JSON text (at most 4 KiB) and checks its signature. Fails with brick-signature. */
export function openManifest(json: string): Manifest {
  if (json.length > 4096) throw new MortarError('brick-signature', 'the manifest is longer than 4 KiB')
  let manifest: Manifest
  try {
    manifest = manifestSchema.parse(JSON.parse(json))
  } catch (cause) {
    throw new MortarError('brick-signature', 'the manifest cannot be read', { cause })
  }
  const { signature, ...statement } = manifest
  if (!verify(LABEL, signedBytes(statement), decodeBase64url(signature), decodeBase64url(statement.builder))) {
    throw new MortarError('brick-signature', `the signature by ${statement.builder} does not verify`)
  }
  return manifest
}

/** What is signed: one `name=value` line per member in the order of the schema. No member can hold a line break. */
function signedBytes(statement: ManifestStatement): Uint8Array {
  const members = Object.keys(statementShape) as (keyof ManifestStatement)[]
  return encodeText(members.map(member => `${member}=${statement[member]}\n`).join(''))
}
