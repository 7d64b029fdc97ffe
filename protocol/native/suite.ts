/** The suite of Node's own cryptography: the same bytes as noble's, several times its speed, keys held as KeyObjects. */
import {
  createCipheriv,
  createDecipheriv,
  createHash,
  createHmac,
  createPrivateKey,
  createPublicKey,
  createSecretKey,
  decapsulate,
  diffieHellman,
  encapsulate,
  generateKeyPairSync,
  type KeyObject,
  randomFillSync,
} from 'node:crypto'
import { NONCES } from '../channel/nonce.ts'
import {
  type Aead,
  type Algorithms,
  type CipherName,
  HASHES,
  type HashName,
  type KemKeys,
  type KeyPair,
  type Suite,
} from '../channel/suite.ts'
import { release } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { newSecret, takeSecret, wipe } from '../core/secret.ts'

/** What stands before the 32 key bytes in DER (RFC 8410): PKCS #8 for the secret half, SPKI for the public one. */
const PKCS8_PREFIX = Buffer.from('302e020100300506032b656e04220420', 'hex')
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex')
/** before the 1,184 bytes of an ML-KEM-768 encapsulation key (FIPS 203; its SPKI is RFC 9935's) */
const KEM_SPKI_PREFIX = Buffer.from('308204b2300b0609608648016503040402038204a100', 'hex')
const KEM_PUBLIC_BYTES = 1184
const KEY_BYTES = 32
const TAG_BYTES = 16
/** up to here a sealed plaintext may be a key in the making, as when a channel's key moves on; a record that is larger is not */
const SMALL_BYTES = 64
const NONE = new Uint8Array(0)

function keyPairOf(privateKey: KeyObject): KeyPair {
  let held: KeyObject | undefined = privateKey
  const publicKey = createPublicKey(privateKey).export({ type: 'spki', format: 'der' })
  return {
    publicKey: new Uint8Array(publicKey.subarray(SPKI_PREFIX.length)),
    async dh(remote) {
      if (!held) throw new MortarError('handshake', 'the key is gone')
      // OpenSSL would read the first 32 bytes of more
      if (remote.length !== KEY_BYTES) throw new MortarError('handshake', 'invalid public key')
      try {
        const key = Buffer.concat([SPKI_PREFIX, remote])
        const publicKey = createPublicKey({ key, format: 'der', type: 'spki' })
        return takeSecret(diffieHellman({ privateKey: held, publicKey }))
      } catch (cause) {
        // a point of low order yields zero, which OpenSSL refuses
        throw new MortarError('handshake', 'invalid public key', { cause })
      }
    },
    wipe() {
      held = undefined
    },
  }
}

function importKeyPair(secret: Uint8Array): KeyPair {
  const der = newSecret(PKCS8_PREFIX.length + 32)
  try {
    der.set(PKCS8_PREFIX)
    der.set(secret, PKCS8_PREFIX.length)
    return keyPairOf(createPrivateKey({ key: Buffer.from(der.buffer, 0, der.length), format: 'der', type: 'pkcs8' }))
  } finally {
    wipe(der)
  }
}

/** OpenSSL's names */
const CIPHERS = { ChaChaPoly: 'chacha20-poly1305', AESGCM: 'aes-256-gcm' } as const
const DIGESTS: Readonly<Record<HashName, string>> = {
  SHA256: 'sha256',
  SHA512: 'sha512',
  BLAKE2s: 'blake2s256',
  BLAKE2b: 'blake2b512',
}

/** A cipher and a hash of OpenSSL at the seam. */
export function nativeAlgorithms(cipher: CipherName, hash: HashName): Algorithms {
  const digest = DIGESTS[hash]
  return {
    hashBytes: HASHES[hash],
    hash: message => new Uint8Array(createHash(digest).update(message).digest()),
    hmac: (key, message) => takeSecret(createHmac(digest, key).update(message).digest()),
    aead: key => aeadOf(cipher, key),
  }
}

function aeadOf(name: CipherName, key: Uint8Array): Aead {
  const writeNonce = NONCES[name]
  // the two overloads of createCipheriv that take associated data
  const algorithm = CIPHERS[name] as 'chacha20-poly1305'
  const options = { authTagLength: TAG_BYTES } as const
  let held: KeyObject | undefined = createSecretKey(key)
  const nonce = new Uint8Array(12)
  const keyOf = () => {
    if (!held) throw new MortarError('connection-lost', 'the key is gone')
    return held
  }
  return {
    seal(counter, associated, plaintext) {
      writeNonce(nonce, counter)
      const cipher = createCipheriv(algorithm, keyOf(), nonce, options)
      if (associated.length > 0) cipher.setAAD(associated, { plaintextLength: plaintext.length })
      const ciphertext = cipher.update(plaintext)
      cipher.final()
      const small = ciphertext.length <= SMALL_BYTES
      const sealedBytes = ciphertext.length + TAG_BYTES
      const sealed = small ? newSecret(sealedBytes) : new Uint8Array(Buffer.allocUnsafeSlow(sealedBytes).buffer)
      sealed.set(ciphertext)
      sealed.set(cipher.getAuthTag(), ciphertext.length)
      if (small) wipe(ciphertext)
      else release(ciphertext)
      return sealed
    },
    open(counter, associated, ciphertext) {
      if (ciphertext.length < TAG_BYTES) return null
      writeNonce(nonce, counter)
      const length = ciphertext.length - TAG_BYTES
      const decipher = createDecipheriv(algorithm, keyOf(), nonce, options)
      if (associated.length > 0) decipher.setAAD(associated, { plaintextLength: length })
      decipher.setAuthTag(ciphertext.subarray(length))
      const plaintext = length === 0 ? NONE : decipher.update(ciphertext.subarray(0, length))
      try {
        decipher.final()
        return plaintext
      } catch {
        wipe(plaintext)
        return null
      }
    },
    wipe() {
      held = undefined
    },
  }
}

function generateKemKeys(): KemKeys {
  const { publicKey, privateKey } = generateKeyPairSync('ml-kem-768')
  let held: KeyObject | undefined = privateKey
  return {
    publicKey: new Uint8Array(publicKey.export({ type: 'spki', format: 'der' }).subarray(KEM_SPKI_PREFIX.length)),
    decapsulate(ciphertext) {
      if (!held) throw new MortarError('handshake', 'the key is gone')
      try {
        return takeSecret(decapsulate(held, ciphertext))
      } catch (cause) {
        throw new MortarError('handshake', 'ML-KEM', { cause })
      }
    },
    wipe() {
      held = undefined
    },
  }
}

export const nativeSuite: Suite = {
  generateKeyPair: () => keyPairOf(generateKeyPairSync('x25519').privateKey),
  importKeyPair,
  generateKemKeys,
  encapsulate(publicKey) {
    if (publicKey.length !== KEM_PUBLIC_BYTES) throw new MortarError('handshake', 'ML-KEM')
    try {
      const key = createPublicKey({ key: Buffer.concat([KEM_SPKI_PREFIX, publicKey]), format: 'der', type: 'spki' })
      const { ciphertext, sharedKey } = encapsulate(key)
      return { ciphertext: new Uint8Array(ciphertext), secret: takeSecret(sharedKey) }
    } catch (cause) {
      throw new MortarError('handshake', 'ML-KEM', { cause })
    }
  },
  algorithms: nativeAlgorithms('ChaChaPoly', 'SHA256'),
  randomBytes: length => randomFillSync(newSecret(length)),
}
