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
  REKEY_COUNTER,
  type Suite,
} from '../channel/suite.ts'
import { release } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { newSecret, passSecret, takeSecret, wipe } from '../core/secret.ts'

const KEM_PUBLIC_BYTES = 1184
const KEY_BYTES = 32
const TAG_BYTES = 16
const NONE = new Uint8Array(0)

function keyPairOf(privateKey: KeyObject): KeyPair {
  let held: KeyObject | undefined = privateKey
  return {
    publicKey: new Uint8Array(createPublicKey(privateKey).export({ format: 'raw-public' })),
    async dh(remote) {
      if (!held) throw new MortarError('handshake', 'the key is gone')
      // OpenSSL would read the first 32 bytes of more
      if (remote.length !== KEY_BYTES) throw new MortarError('handshake', 'invalid public key')
      try {
        const publicKey = createPublicKey({ key: bufferOf(remote), format: 'raw-public', asymmetricKeyType: 'x25519' })
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

/** As raw bytes: OpenSSL frees the buffers that it decodes DER in with the key still in them. */
function importKeyPair(secret: Uint8Array): KeyPair {
  return keyPairOf(createPrivateKey({ key: bufferOf(secret), format: 'raw-private', asymmetricKeyType: 'x25519' }))
}

/** The same bytes, not a copy. */
const bufferOf = (bytes: Uint8Array) => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length)

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

const updateWhole: typeof passSecret = (cipher, bytes) => cipher.update(bytes)

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
  const openWith = (update: typeof passSecret, counter: number, associated: Uint8Array, ciphertext: Uint8Array) => {
    if (ciphertext.length < TAG_BYTES) return null
    writeNonce(nonce, counter)
    const length = ciphertext.length - TAG_BYTES
    const decipher = createDecipheriv(algorithm, keyOf(), nonce, options)
    if (associated.length > 0) decipher.setAAD(associated, { plaintextLength: length })
    decipher.setAuthTag(ciphertext.subarray(length))
    const plaintext = length === 0 ? NONE : update(decipher, ciphertext.subarray(0, length))
    try {
      decipher.final()
      return plaintext
    } catch {
      wipe(plaintext)
      return null
    }
  }
  return {
    seal(counter, associated, plaintext) {
      writeNonce(nonce, counter)
      const cipher = createCipheriv(algorithm, keyOf(), nonce, options)
      if (associated.length > 0) cipher.setAAD(associated, { plaintextLength: plaintext.length })
      // what comes out under this counter is the next key
      const secret = counter === REKEY_COUNTER
      const ciphertext = secret ? passSecret(cipher, plaintext) : cipher.update(plaintext)
      cipher.final()
      const sealedBytes = ciphertext.length + TAG_BYTES
      const sealed = secret ? newSecret(sealedBytes) : new Uint8Array(Buffer.allocUnsafeSlow(sealedBytes).buffer)
      sealed.set(ciphertext)
      sealed.set(cipher.getAuthTag(), ciphertext.length)
      if (secret) wipe(ciphertext)
      else release(ciphertext)
      return sealed
    },
    open: (counter, associated, ciphertext) => openWith(updateWhole, counter, associated, ciphertext),
    openSecret: (counter, associated, ciphertext) => openWith(passSecret, counter, associated, ciphertext),
    wipe() {
      held = undefined
    },
  }
}

function generateKemKeys(): KemKeys {
  const { publicKey, privateKey } = generateKeyPairSync('ml-kem-768')
  let held: KeyObject | undefined = privateKey
  return {
    publicKey: new Uint8Array(publicKey.export({ format: 'raw-public' })),
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
      const key = createPublicKey({ key: bufferOf(publicKey), format: 'raw-public', asymmetricKeyType: 'ml-kem-768' })
      const { ciphertext, sharedKey } = encapsulate(key)
      return { ciphertext: new Uint8Array(ciphertext), secret: takeSecret(sharedKey) }
    } catch (cause) {
      throw new MortarError('handshake', 'ML-KEM', { cause })
    }
  },
  algorithms: nativeAlgorithms('ChaChaPoly', 'SHA256'),
  randomBytes: length => randomFillSync(newSecret(length)),
}
