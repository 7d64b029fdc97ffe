/** Keys derived from other keys: HKDF-SHA256 (RFC 5869), and what both ends derive from the launch secret. SPEC §2.3 */
import { encodeText } from '../core/bytes.ts'
import { concatSecret, newSecret, wipe } from '../core/secret.ts'
import { signingPublicKey } from '../core/signing.ts'
import type { Suite } from './suite.ts'

/** what stands for no salt: as many zeros as the hash has bytes */
const NO_SALT = newSecret(32)

/** 255 blocks of SHA-256: their number is one byte (RFC 5869, section 2.3) */
const MOST_BYTES = 255 * 32

/** HKDF-SHA256. `length`: 1 to 8160 bytes, else a RangeError. The result is the caller's to wipe. */
export function hkdf(
  suite: Suite,
  ikm: Uint8Array,
  salt: Uint8Array,
  info: string | Uint8Array,
  length: number,
): Uint8Array {
  if (length < 1 || length > MOST_BYTES) throw new RangeError(`HKDF gives 1 to ${MOST_BYTES} bytes, not ${length}`)
  const infoBytes = typeof info === 'string' ? encodeText(info) : info
  const pseudoRandomKey = suite.algorithms.hmac(salt.length > 0 ? salt : NO_SALT, ikm)
  const output = newSecret(length)
  let block: Uint8Array = new Uint8Array(0)
  for (let i = 0, offset = 0; offset < length; i++, offset += 32) {
    const message = concatSecret(block, infoBytes, Uint8Array.of(i + 1))
    const next = suite.algorithms.hmac(pseudoRandomKey, message)
    wipe(block, message)
    block = next
    output.set(block.subarray(0, Math.min(32, length - offset)), offset)
  }
  wipe(pseudoRandomKey, block)
  return output
}

/** The Ed25519 seed that signs the enrolment: who can make it knows the launch secret. Wipe it. */
export function launchSeed(suite: Suite, launchSecret: Uint8Array): Uint8Array {
  return hkdf(suite, launchSecret, new Uint8Array(0), 'mortar enrolment v1', 32)
}

/** The commitment to the launch secret that the ticket carries: the public key of launchSeed. */
export function launchCommitment(suite: Suite, launchSecret: Uint8Array): Uint8Array {
  const seed = launchSeed(suite, launchSecret)
  try {
    return signingPublicKey(seed)
  } finally {
    wipe(seed)
  }
}

/**
 * The psk of the channel: from the secret of ML-KEM, and the launch secret at first contact or 32 zero bytes later. Both
 * 32 bytes and the caller's to wipe, as is the result. SPEC §5.2
 */
export function channelPsk(
  suite: Suite,
  prologue: Uint8Array,
  kemSecret: Uint8Array,
  launchSecret: Uint8Array | null,
): Uint8Array {
  const material = newSecret(64)
  material.set(kemSecret)
  if (launchSecret) material.set(launchSecret, 32)
  try {
    return hkdf(suite, material, suite.algorithms.hash(prologue), 'mortar channel psk v1', 32)
  } finally {
    wipe(material)
  }
}
