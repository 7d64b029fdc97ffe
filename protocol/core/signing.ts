/** All the cryptography that the broker may touch: SHA-256, Ed25519 signatures, signed envelopes. Nothing here can decrypt. */
import { ed25519 } from '@noble/curves/ed25519.js'
import { sha256 as nobleSha256 } from '@noble/hashes/sha2.js'
import type { z } from 'zod'
import { concat, encodeText } from './bytes.ts'
import { decodeCbor, encodeCbor } from './codec.ts'
import { type ErrorCode, MortarError } from './errors.ts'
import { LIMITS } from './limits.ts'
import { bytes, bytesUpTo, object } from './schema.ts'

export const sha256 = (message: Uint8Array): Uint8Array => nobleSha256(message)

/** For programs that sign once in a while: tables of multiples of the base point take 100 KiB instead of several MiB, signing twice the time. */
export function signSeldom(): void {
  ed25519.Point.BASE.precompute(2, true)
}

/** Public key (32 bytes) of an Ed25519 seed (32 bytes), RFC 8032. */
export const signingPublicKey = (seed: Uint8Array): Uint8Array => ed25519.getPublicKey(seed)

/** Signs `label ‖ 0x00 ‖ message`: the label says what kind of statement it is, so no signature serves for another. */
export function sign(label: string, message: Uint8Array, seed: Uint8Array): Uint8Array {
  return ed25519.sign(labelled(label, message), seed)
}

/** True when the signature over `label ‖ 0x00 ‖ message` is the key's (RFC 8032, strict encodings). False for any malformed input. */
export function verify(label: string, message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  return verifyBytes(labelled(label, message), signature, publicKey)
}

/** The same over the message alone: what others sign, such as published vectors. None of our statements is without a label. */
export function verifyBytes(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  try {
    return ed25519.verify(signature, message, publicKey, { zip215: false })
  } catch {
    return false
  }
}

/** The bytes that a signature is over. */
export function labelled(label: string, message: Uint8Array): Uint8Array {
  return concat(encodeText(label), new Uint8Array(1), message)
}

/** the body and what is around it */
const ENVELOPE_BYTES = LIMITS.signedBytes + 256
const envelopeSchema = object({ body: bytesUpTo(LIMITS.signedBytes), key: bytes(32), signature: bytes(64) })

/** A statement in its signed envelope: CBOR of body (CBOR itself), key and signature. SPEC §2.1 */
export function sealStatement(label: string, statement: unknown, seed: Uint8Array): Uint8Array {
  const body = encodeCbor(statement)
  return encodeCbor({ body, key: signingPublicKey(seed), signature: sign(label, body, seed) })
}

/**
 * Opens a signed envelope: the signature is checked before the body is parsed. Returns the statement and the key that
 * signed it; whether that key is the right one is the caller's to check. Fails with `code`. SPEC §2.1
 */
export function openStatement<S extends z.ZodType>(
  label: string,
  schema: S,
  envelope: Uint8Array,
  code: ErrorCode,
): { statement: z.output<S>; key: Uint8Array } {
  if (envelope.length > ENVELOPE_BYTES)
    throw new MortarError(code, `${envelope.length} bytes, at most ${ENVELOPE_BYTES}`)
  const { body, key, signature } = decodeCbor(envelopeSchema, envelope, ENVELOPE_BYTES, code)
  if (!verify(label, body, signature, key)) throw new MortarError(code, 'the signature does not verify')
  return { statement: decodeCbor(schema, body, LIMITS.signedBytes, code), key }
}

/** The key that an envelope names, without a look at signature or body: to refuse cheaply what an unknown key signed. Fails with `code`. */
export function namedKey(envelope: Uint8Array, code: ErrorCode): Uint8Array {
  return decodeCbor(envelopeSchema, envelope, ENVELOPE_BYTES, code).key
}
