/**
 * What the second implementation is made of: keys, hashes, ciphers and CBOR by node:crypto alone, no code of ours, written
 * from SPEC.md and the RFCs it names. The scripts beside this file print the test vectors with it.
 */
import * as crypto from 'node:crypto'

export const hex = bytes => Buffer.from(bytes).toString('hex')
export const cat = (...parts) => Buffer.concat(parts.map(part => Buffer.from(part)))
export const base64url = bytes => Buffer.from(bytes).toString('base64url')
export const sha256 = data => crypto.createHash('sha256').update(data).digest()
export const hmac = (key, data) => crypto.createHmac('sha256', key).update(data).digest()

/** 32 bytes that stand for a key or a random value: the same at each run. */
export const fixed = label => sha256(Buffer.from(`mortar test vector: ${label}`))

/** HKDF-SHA256 of RFC 5869 */
export const hkdf = (key, salt, info, length) => Buffer.from(crypto.hkdfSync('sha256', key, salt, info, length))

// keys from their 32 bytes, in the DER of RFC 8410
const privateKey = (algorithm, secret) =>
  crypto.createPrivateKey({
    key: cat(Buffer.from(`302e020100300506032b65${algorithm}04220420`, 'hex'), secret),
    format: 'der',
    type: 'pkcs8',
  })
const X25519 = '6e'
const ED25519 = '70'
const publicHalf = key => Buffer.from(crypto.createPublicKey(key).export({ format: 'jwk' }).x, 'base64url')

/** X25519: public key of a secret */
export const dhPublic = secret => publicHalf(privateKey(X25519, secret))
export const dh = (secret, remote) =>
  crypto.diffieHellman({
    privateKey: privateKey(X25519, secret),
    publicKey: crypto.createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: base64url(remote) }, format: 'jwk' }),
  })

/** Ed25519: public key of a seed */
export const signPublic = seed => publicHalf(privateKey(ED25519, seed))
export const signBytes = (message, seed) => crypto.sign(null, message, privateKey(ED25519, seed))
/** SPEC §2: label, a zero byte, message */
export const sign = (label, message, seed) => signBytes(cat(Buffer.from(label), [0], message), seed)

/** AEAD with Noise's nonce: 32 zero bits and the counter, little-endian for ChaChaPoly, big-endian for AESGCM. */
export function seal(key, counter, associated, plaintext, cipherName = 'ChaChaPoly') {
  const nonce = Buffer.alloc(12)
  const aes = cipherName === 'AESGCM'
  if (aes) nonce.writeBigUInt64BE(BigInt(counter), 4)
  else nonce.writeBigUInt64LE(BigInt(counter), 4)
  const cipher = crypto.createCipheriv(aes ? 'aes-256-gcm' : 'chacha20-poly1305', key, nonce, { authTagLength: 16 })
  cipher.setAAD(associated, { plaintextLength: plaintext.length })
  return cat(cipher.update(plaintext), cipher.final(), cipher.getAuthTag())
}

/** Rekey() of Noise 4.2: 32 zeros sealed under the counter 2^64 - 1, without the tag. */
export const rekey = key => seal(key, 2n ** 64n - 1n, Buffer.alloc(0), Buffer.alloc(32)).subarray(0, 32)

function head(major, value) {
  const type = major << 5
  if (value < 24) return Buffer.of(type | value)
  const [size, mark] = value < 2 ** 8 ? [1, 24] : value < 2 ** 16 ? [2, 25] : value < 2 ** 32 ? [4, 26] : [8, 27]
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return cat([type | mark], bytes.subarray(8 - size))
}

/** CBOR, RFC 8949 in its core deterministic encoding: unsigned integers, bytes, text, arrays, maps, true, false, null. */
export function cbor(value) {
  if (value === null) return Buffer.of(0xf6)
  if (typeof value === 'boolean') return Buffer.of(value ? 0xf5 : 0xf4)
  if (typeof value === 'number') return head(0, value)
  if (typeof value === 'string') return cat(head(3, Buffer.byteLength(value)), Buffer.from(value))
  if (value instanceof Uint8Array) return cat(head(2, value.length), value)
  if (Array.isArray(value)) return cat(head(4, value.length), ...value.map(cbor))
  const entries = Object.entries(value).map(([name, item]) => [cbor(name), cbor(item)])
  entries.sort(([a], [b]) => Buffer.compare(a, b))
  return cat(head(5, entries.length), ...entries.flat())
}

/** A big-endian integer of `size` bytes */
export function uint(value, size) {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64BE(BigInt(value))
  return bytes.subarray(8 - size)
}

/** A value for JSON, its bytes made by `ofBytes`: in hex unless given. */
export function plain(value, ofBytes = hex) {
  // not by a replacer: what has a toJSON(), as bytes do, comes to it too late
  if (value instanceof Uint8Array) return ofBytes(value)
  if (Array.isArray(value)) return value.map(item => plain(item, ofBytes))
  if (value === null || typeof value !== 'object') return value
  return Object.fromEntries(Object.entries(value).map(([name, item]) => [name, plain(item, ofBytes)]))
}
