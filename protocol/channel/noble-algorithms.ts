/** Every cipher and hash of Noise by noble. Ours needs one of each (noble-suite.ts); published vectors need all. */
import { gcm } from '@noble/ciphers/aes.js'
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { blake2b, blake2s } from '@noble/hashes/blake2.js'
import { sha256, sha512 } from '@noble/hashes/sha2.js'
import { nobleAlgorithms } from './noble-suite.ts'
import type { Algorithms, CipherName, HashName } from './suite.ts'

/** noble's GCM takes no buffer for its output */
const aesGcm = (key: Uint8Array, nonce: Uint8Array, associated: Uint8Array) => {
  const cipher = gcm(key, nonce, associated)
  return {
    encrypt: (bytes: Uint8Array) => cipher.encrypt(bytes),
    decrypt: (bytes: Uint8Array) => cipher.decrypt(bytes),
  }
}
const CIPHERS = { ChaChaPoly: chacha20poly1305, AESGCM: aesGcm } as const
const HASHES = { SHA256: sha256, SHA512: sha512, BLAKE2s: blake2s, BLAKE2b: blake2b } as const

export function nobleAlgorithmsOf(cipher: CipherName, hash: HashName): Algorithms {
  return nobleAlgorithms(cipher, CIPHERS[cipher], HASHES[hash])
}
