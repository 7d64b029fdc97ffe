/**
 * Deterministic CBOR (RFC 8949 section 4.2) for signed objects and messages in the channel. Decoding is strict: shortest
 * integers, definite lengths, no tags, floats or repeated keys, nothing left over, so one value has one encoding.
 */
import { decode, encode, encodeInto } from 'cborg'
import type { z } from 'zod'
import { equalBytes } from './bytes.ts'
import { type ErrorCode, MortarError } from './errors.ts'
import { LIMITS } from './limits.ts'
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
    requireForm(bytes)
    value = decode(bytes, DECODING)
    requireCanonical(value, bytes)
  } catch (cause) {
    throw new MortarError(code, cause instanceof Error ? cause.message : '', { cause })
  }
  const checked = schema.safeParse(value)
  if (!checked.success) throw new MortarError(code, checked.error.issues[0]?.message ?? '', { cause: checked.error })
  return checked.data
}

const [BYTES, TEXT, ARRAY, MAP, SIMPLE] = [2, 3, 4, 5, 7]
/** additional information of a head: the argument follows in 1, 2, 4 or 8 bytes; from ONE_BYTE + 4 there is none */
const ONE_BYTE = 24

/**
 * Goes over the heads alone, before anything is built: containers nest at most LIMITS.nesting deep, and there is no float.
 * What else may be wrong with the bytes is the decoder's to find. Throws for what it finds.
 */
function requireForm(bytes: Uint8Array): void {
  /** items still to come in each container that is open */
  const open: number[] = []
  for (let offset = 0; offset < bytes.length; ) {
    while (open.at(-1) === 0) open.pop()
    if (open.length > 0) open.push((open.pop() as number) - 1)
    const head = bytes[offset++] as number
    const [major, info] = [head >> 5, head & 31]
    if (major === SIMPLE && info > ONE_BYTE) throw new Error('a float')
    const width = info < ONE_BYTE ? 0 : 2 ** (info - ONE_BYTE)
    let argument = width === 0 ? info : 0
    for (const end = offset + width; offset < end; offset++) argument = argument * 256 + (bytes[offset] ?? 0)
    if (major === BYTES || major === TEXT) offset += argument
    if (major === ARRAY || major === MAP) open.push(major === MAP ? 2 * argument : argument)
    if (open.length > LIMITS.nesting) throw new Error(`more than ${LIMITS.nesting} deep`)
  }
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
