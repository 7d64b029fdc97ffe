/** Seals bytes to somebody's X25519 key, with a key of our own for this once: Diffie-Hellman, HKDF-SHA256, the suite's cipher. SPEC §2.6, §7.4 */
import { concat } from '../core/bytes.ts'
import { wipe } from '../core/secret.ts'
import { hkdf } from './derive.ts'
import type { Aead, Suite } from './suite.ts'

export interface Sealing {
  /** HKDF's salt, which binds what is sealed to its keys and purpose; `ephemeral`: our public key, 32 bytes */
  salt(ephemeral: Uint8Array): Uint8Array
  readonly info: string
}

/** Returns our public key ‖ ciphertext ‖ tag. `secret` stays the caller's to wipe. Fails with handshake for a key that is none. */
export async function sealToKey(
  suite: Suite,
  recipient: Uint8Array,
  { salt, info }: Sealing,
  secret: Uint8Array,
): Promise<Uint8Array> {
  const pair = suite.generateKeyPair()
  let shared: Uint8Array | undefined
  let key: Uint8Array | undefined
  let aead: Aead | undefined
  try {
    shared = await pair.dh(recipient)
    key = hkdf(suite, shared, salt(pair.publicKey), info, 32)
    aead = suite.algorithms.aead(key)
    return concat(pair.publicKey, aead.seal(0, new Uint8Array(0), secret))
  } finally {
    wipe(shared, key)
    aead?.wipe()
    pair.wipe()
  }
}
