/**
 * Deterministic CBOR (RFC 8949 section 4.2) for signed objects and messages in the channel. Decoding is strict: shortest
 * integers, definite lengths, no tags, floats or repeated keys, nothing left over, so one value has one encoding.
 */
import { decode, encode, encodeInto } from 'cborg'
import type { z } from 'zod'
import { equalBytes } from './bytes.ts'
import { type ErrorCode, MortarError } from './errors.ts'
import { newSecret, wipe } from './secret.ts'

const DECODING = {
  strict: true,
  rejectDuplicateMapKeys: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowInfinity: false,
  allowNaN: false,
  allowBigInt: false,
} as const

/** The one CBOR encoding of a value made of maps, arrays, text, bytes, integers, booleans and null. */
export function encodeCbor(value: unknown): Uint8Array {
  return encode(value)
}

/**
 * Decodes and checks a value from the other side. Fails with `code` when the bytes are longer than `limitBytes`, not the
 * canonical encoding, or not of the schema.
 */
export function decodeCbor<S extends z.ZodType>(
  schema: S,
  bytes: Uint8Array,
  limitBytes: number,
  code: ErrorCode,
): z.output<S> {
  if (bytes.length > limitBytes) throw new MortarError('limit-exceeded', `${bytes.length} bytes, at most ${limitBytes}`)
  let value: unknown
  try {
    value = decode(bytes, DECODING)
    requireCanonical(value, bytes)
  } catch (cause) {
    throw new MortarError(code, cause instanceof Error ? cause.message : '', { cause })
  }
  const checked = schema.safeParse(value)
  if (!checked.success) throw new MortarError(code, checked.error.issues[0]?.message ?? '', { cause: checked.error })
  return checked.data
}

/** The value may hold a secret, so what it is encoded into is wiped. Throws when `bytes` are not its encoding. */
function requireCanonical(value: unknown, bytes: Uint8Array): void {
  const again = newSecret(bytes.length)
  try {
    const { written } = encodeInto(value, again)
    if (written !== bytes.length || !equalBytes(again, bytes)) throw new Error('not the canonical encoding')
  } finally {
    wipe(again)
  }
}
