/**
 * Buffers for secrets. Engines keep typed arrays of up to 64 bytes inside their garbage-collected heap, where a copy may
 * stay behind when the array moves; a view on a larger buffer is kept outside, once. So every secret of ours lives in a
 * view on a buffer of at least 128 bytes, and is wiped by its holder.
 */
const SMALLEST_BUFFER_BYTES = 128

/** A zeroed secret of `length` bytes in a buffer of its own. The caller owns it and calls wipe(). */
export function newSecret(length: number): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new ArrayBuffer(Math.max(length, SMALLEST_BUFFER_BYTES)), 0, length)
}

/** Copies bytes into a secret buffer of their own. The source is not wiped. */
export function copySecret(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const secret = newSecret(bytes.length)
  secret.set(bytes)
  return secret
}

/** Copies bytes into a secret buffer and wipes the source: for what a library made. */
export function takeSecret(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  const secret = copySecret(bytes)
  wipe(bytes)
  return secret
}

/** Joins byte arrays in a secret buffer. The parts are not wiped. */
export function concatSecret(...parts: readonly Uint8Array[]): Uint8Array<ArrayBuffer> {
  const joined = newSecret(parts.reduce((length, part) => length + part.length, 0))
  let offset = 0
  for (const part of parts) {
    joined.set(part, offset)
    offset += part.length
  }
  return joined
}

/** Overwrites secrets with zeros. */
export function wipe(...secrets: readonly (Uint8Array | undefined)[]): void {
  for (const secret of secrets) secret?.fill(0)
}

/**
 * Passes bytes one at a time through the update() of a cipher that makes a secret of them: Node frees the buffer that the
 * cipher wrote into as it is, and hands out a copy. The result is the caller's to wipe.
 */
export function passSecret(
  cipher: { update(bytes: Uint8Array): Uint8Array },
  bytes: Uint8Array,
): Uint8Array<ArrayBufferLike> {
  const secret = newSecret(bytes.length)
  for (let i = 0; i < bytes.length; i++) secret.set(cipher.update(bytes.subarray(i, i + 1)), i)
  return secret
}
