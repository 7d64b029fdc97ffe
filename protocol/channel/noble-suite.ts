/** The suite of noble: pure TypeScript, the same in browsers and Node, the reference for every other one. */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { randomBytes } from '@noble/hashes/utils.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import { MortarError } from '../core/errors.ts'
import { copySecret, newSecret, wipe } from '../core/secret.ts'
import { NONCES } from './nonce.ts'
import type { Aead, Algorithms, CipherName, KeyPair, Suite } from './suite.ts'

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

type NobleHash = Parameters<typeof hmac>[0]
type NobleCipher = (
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
) => {
  encrypt(plaintext: Uint8Array): Uint8Array
  decrypt(ciphertext: Uint8Array): Uint8Array
}

/** A cipher and a hash of noble at the seam. */
export function nobleAlgorithms(cipherName: CipherName, cipher: NobleCipher, hash: NobleHash): Algorithms {
  const writeNonce = NONCES[cipherName]
  return {
    hashBytes: hash.outputLen,
    hash: message => hash(message as Uint8Array<ArrayBuffer>),
    hmac: (key, message) => hmac(hash, key as Uint8Array<ArrayBuffer>, message as Uint8Array<ArrayBuffer>),
    aead: key => aeadOf(key, cipher, writeNonce),
  }
}

function aeadOf(key: Uint8Array, cipher: NobleCipher, writeNonce: (nonce: Uint8Array, counter: number) => void): Aead {
  const held = copySecret(key)
  const nonce = new Uint8Array(12)
  return {
    seal(counter, associated, plaintext) {
      writeNonce(nonce, counter)
      return cipher(held, nonce, associated).encrypt(plaintext)
    },
    open(counter, associated, ciphertext) {
      writeNonce(nonce, counter)
      try {
        return cipher(held, nonce, associated).decrypt(ciphertext)
      } catch {
        return null
      }
    },
    wipe: () => wipe(held),
  }
}

/** Whatever is wrong with the other end's bytes is one and the same failure. */
function orHandshake<T>(run: () => T): T {
  try {
    return run()
  } catch (cause) {
    throw new MortarError('handshake', 'ML-KEM', { cause })
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
  generateKemKeys() {
    const { publicKey, secretKey } = ml_kem768.keygen()
    return {
      publicKey,
      decapsulate: ciphertext =>
        orHandshake(() => ml_kem768.decapsulate(ciphertext as Uint8Array<ArrayBuffer>, secretKey)),
      wipe: () => wipe(secretKey),
    }
  },
  encapsulate(publicKey) {
    const { cipherText, sharedSecret } = orHandshake(() => ml_kem768.encapsulate(publicKey as Uint8Array<ArrayBuffer>))
    return { ciphertext: cipherText, secret: sharedSecret }
  },
  algorithms: nobleAlgorithms('ChaChaPoly', chacha20poly1305, sha256),
  randomBytes: length => randomBytes(length),
}
