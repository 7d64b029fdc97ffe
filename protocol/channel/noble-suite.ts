/** The suite of noble: pure TypeScript, the same in browsers and Node, the reference for every other one. */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { randomBytes } from '@noble/hashes/utils.js'
import { MortarError } from '../core/errors.ts'
import { copySecret, newSecret, wipe } from '../core/secret.ts'
import { writeNonce } from './nonce.ts'
import type { Aead, KeyPair, Suite } from './suite.ts'

function keyPairOf(secret: Uint8Array): KeyPair {
  const held = copySecret(secret)
  return {
    publicKey: x25519.getPublicKey(held),
    async dh(publicKey) {
      try {
        return x25519.getSharedSecret(held, publicKey)
      } catch (cause) {
        // a point of low order yields zero, which noble refuses
        throw new MortarError('handshake', 'invalid public key', { cause })
      }
    },
    wipe: () => wipe(held),
  }
}

function aeadOf(key: Uint8Array): Aead {
  const held = copySecret(key)
  const nonce = new Uint8Array(12)
  return {
    seal(counter, associated, plaintext) {
      writeNonce(nonce, counter)
      return chacha20poly1305(held, nonce, associated).encrypt(plaintext)
    },
    open(counter, associated, ciphertext) {
      writeNonce(nonce, counter)
      try {
        return chacha20poly1305(held, nonce, associated).decrypt(ciphertext)
      } catch {
        return null
      }
    },
    wipe: () => wipe(held),
  }
}

export const nobleSuite: Suite = {
  generateKeyPair() {
    const secret = newSecret(32)
    secret.set(randomBytes(32))
    const pair = keyPairOf(secret)
    wipe(secret)
    return pair
  },
  importKeyPair: keyPairOf,
  aead: aeadOf,
  sha256: message => sha256(message),
  hmacSha256: (key, message) => hmac(sha256, key, message),
  randomBytes: length => randomBytes(length),
}
