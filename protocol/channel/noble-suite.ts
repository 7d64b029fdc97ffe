/** The suite of noble: pure TypeScript, the same in browsers and Node, the reference for every other one. */
import { chacha20poly1305 } from '@noble/ciphers/chacha.js'
import { x25519 } from '@noble/curves/ed25519.js'
import { hmac } from '@noble/hashes/hmac.js'
import { sha256 } from '@noble/hashes/sha2.js'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import { MortarError } from '../core/errors.ts'
import { copySecret, newSecret, takeSecret, wipe } from '../core/secret.ts'
import { NONCES } from './nonce.ts'
import type { Aead, Algorithms, CipherName, KeyPair, Suite } from './suite.ts'

const TAG_BYTES = 16

/** Lends a key until it is forgotten: zeros are a key too, one that everybody knows. */
function holder(held: Uint8Array, code: 'handshake' | 'connection-lost') {
  let gone = false
  return {
    key() {
      if (gone) throw new MortarError(code, 'the key is gone')
      return held
    },
    wipe() {
      gone = true
      wipe(held)
    },
  }
}

/** Takes the secret over. */
function keyPairOf(secret: Uint8Array): KeyPair {
  const held = holder(secret, 'handshake')
  return {
    publicKey: x25519.getPublicKey(secret),
    async dh(publicKey) {
      const key = held.key()
      try {
        return takeSecret(x25519.getSharedSecret(key, publicKey))
      } catch (cause) {
        // a point of low order yields zero, which noble refuses
        throw new MortarError('handshake', 'invalid public key', { cause })
      }
    },
    wipe: held.wipe,
  }
}

type NobleHash = Parameters<typeof hmac>[0]
type NobleCipher = (
  key: Uint8Array,
  nonce: Uint8Array,
  associated: Uint8Array,
) => {
  encrypt(plaintext: Uint8Array, output: Uint8Array): Uint8Array
  decrypt(ciphertext: Uint8Array, output: Uint8Array): Uint8Array
}

/** A cipher and a hash of noble at the seam. */
export function nobleAlgorithms(cipherName: CipherName, cipher: NobleCipher, hash: NobleHash): Algorithms {
  const writeNonce = NONCES[cipherName]
  return {
    hashBytes: hash.outputLen,
    hash: message => hash(message as Uint8Array<ArrayBuffer>),
    hmac(key, message) {
      const output = newSecret(hash.outputLen)
      const mac = hmac.create(hash, key as Uint8Array<ArrayBuffer>)
      mac.update(message as Uint8Array<ArrayBuffer>).digestInto(output)
      return output
    },
    aead: key => aeadOf(key, cipher, writeNonce),
  }
}

function aeadOf(key: Uint8Array, cipher: NobleCipher, writeNonce: (nonce: Uint8Array, counter: number) => void): Aead {
  const held = holder(copySecret(key), 'connection-lost')
  const nonce = new Uint8Array(12)
  const open: Aead['open'] = (counter, associated, ciphertext) => {
    const key = held.key()
    if (ciphertext.length < TAG_BYTES) return null
    writeNonce(nonce, counter)
    try {
      return cipher(key, nonce, associated).decrypt(ciphertext, newSecret(ciphertext.length - TAG_BYTES))
    } catch {
      return null
    }
  }
  return {
    seal(counter, associated, plaintext) {
      writeNonce(nonce, counter)
      return cipher(held.key(), nonce, associated).encrypt(plaintext, newSecret(plaintext.length + TAG_BYTES))
    },
    open,
    openSecret: open,
    wipe: held.wipe,
  }
}

const randomBytes = (length: number) => crypto.getRandomValues(newSecret(length))

/** Whatever is wrong with the other end's bytes is one and the same failure. */
function orHandshake<T>(run: () => T): T {
  try {
    return run()
  } catch (cause) {
    throw new MortarError('handshake', 'ML-KEM', { cause })
  }
}

export const nobleSuite: Suite = {
  generateKeyPair: () => keyPairOf(randomBytes(32)),
  importKeyPair: secret => keyPairOf(copySecret(secret)),
  generateKemKeys() {
    const { publicKey, secretKey } = ml_kem768.keygen()
    const held = holder(secretKey, 'handshake')
    return {
      publicKey,
      decapsulate(ciphertext) {
        const key = held.key() as Uint8Array<ArrayBuffer>
        return orHandshake(() => takeSecret(ml_kem768.decapsulate(ciphertext as Uint8Array<ArrayBuffer>, key)))
      },
      wipe: held.wipe,
    }
  },
  encapsulate(publicKey) {
    const { cipherText, sharedSecret } = orHandshake(() => ml_kem768.encapsulate(publicKey as Uint8Array<ArrayBuffer>))
    return { ciphertext: cipherText, secret: takeSecret(sharedSecret) }
  },
  algorithms: nobleAlgorithms('ChaChaPoly', chacha20poly1305, sha256),
  randomBytes,
}
