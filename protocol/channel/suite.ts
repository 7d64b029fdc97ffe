/**
 * The seam to the cryptography of a host: 25519, ChaChaPoly, SHA256 as Noise names them. noble runs everywhere
 * (noble-suite.ts); a host with native code passes its own. What can decrypt is reached through here and nowhere else.
 * Secrets that a suite returns are in buffers of core/secret.ts, and the caller's to wipe.
 */

/** A Diffie-Hellman key pair; the secret half may be a handle that cannot be read. */
export interface KeyPair {
  /** 32 bytes */
  readonly publicKey: Uint8Array
  /** X25519 (RFC 7748). The result, 32 bytes, is the caller's to wipe. Fails with handshake when it is all zero. */
  dh(publicKey: Uint8Array): Promise<Uint8Array>
  /** Forgets the secret half; dh() then fails with handshake. */
  wipe(): void
}

/** One AEAD key: ChaChaPoly (RFC 8439) or AESGCM (NIST SP 800-38D), with the nonces of nonce.ts. */
export interface Aead {
  /** Ciphertext and tag in a new array. `counter`: 0 to 2^53 - 1, or 2^64 - 1 given as REKEY_COUNTER. */
  seal(counter: number, associated: Uint8Array, plaintext: Uint8Array): Uint8Array
  /** Plaintext in a new array of the caller's, or null when the tag is wrong. */
  open(counter: number, associated: Uint8Array, ciphertext: Uint8Array): Uint8Array | null
  /** open() for what is a secret: no library keeps a copy of it. Slow; the plaintext is the caller's to wipe. */
  openSecret(counter: number, associated: Uint8Array, ciphertext: Uint8Array): Uint8Array | null
  /** Forgets the key; the others then fail with connection-lost. */
  wipe(): void
}

/** Stands for the counter 2^64 - 1, which Noise reserves for rekeying. */
export const REKEY_COUNTER = -1

/** Names as in Noise protocol names (section 12). */
export const CIPHERS = ['ChaChaPoly', 'AESGCM'] as const
export type CipherName = (typeof CIPHERS)[number]
/** bytes of each hash */
export const HASHES = { SHA256: 32, SHA512: 64, BLAKE2s: 32, BLAKE2b: 64 } as const
export type HashName = keyof typeof HASHES

/** One cipher and one hash, as the Noise engine uses them. */
export interface Algorithms {
  /** 32 or 64 */
  readonly hashBytes: number
  hash(message: Uint8Array): Uint8Array
  /** HMAC (RFC 2104) with that hash */
  hmac(key: Uint8Array, message: Uint8Array): Uint8Array
  /** Takes a copy of `key` (32 bytes); the caller wipes its own. */
  aead(key: Uint8Array): Aead
}

/** One use of ML-KEM-768 (FIPS 203), the half that receives. */
export interface KemKeys {
  /** encapsulation key, 1,184 bytes */
  readonly publicKey: Uint8Array
  /** The shared secret, 32 bytes, the caller's to wipe. `ciphertext`: 1,088 bytes; a wrong one yields a wrong secret. Fails with handshake. */
  decapsulate(ciphertext: Uint8Array): Uint8Array
  /** Forgets the secret half; decapsulate() then fails with handshake. */
  wipe(): void
}

/** 25519, ML-KEM-768 and the algorithms of our protocol: ChaChaPoly and SHA256. */
export interface Suite {
  generateKeyPair(): KeyPair
  /** `secret`: 32 bytes, still the caller's to wipe. */
  importKeyPair(secret: Uint8Array): KeyPair
  generateKemKeys(): KemKeys
  /** A shared secret (32 bytes, the caller's to wipe) for the holder of `publicKey`. Fails with handshake when that is none. */
  encapsulate(publicKey: Uint8Array): { readonly ciphertext: Uint8Array; readonly secret: Uint8Array }
  readonly algorithms: Algorithms
  randomBytes(length: number): Uint8Array
}
