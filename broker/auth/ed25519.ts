/** Ed25519 by Node's own means, for what strangers may have the broker compute: a tenth of the time. */
import { createPrivateKey, createPublicKey, sign, verify } from 'node:crypto'
import { wipe } from '../../protocol/core/secret.ts'

/** before a seed, and before a public key, of 32 bytes in DER (RFC 8410) */
const SEED_PREFIX = Buffer.from('302e020100300506032b657004220420', 'hex')
const KEY_PREFIX = Buffer.from('302a300506032b6570032100', 'hex')

/** Returns what signs with a seed, which stays the caller's. */
export function signer(seed: Uint8Array): (message: Uint8Array) => Uint8Array {
  const der = Buffer.concat([SEED_PREFIX, seed])
  try {
    const key = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' })
    return message => new Uint8Array(sign(null, message, key))
  } finally {
    wipe(der)
  }
}

/** False for any malformed input. It is laxer than RFC 8032 about encodings: a true is to be checked again where that matters. */
export function mayVerify(message: Uint8Array, signature: Uint8Array, publicKey: Uint8Array): boolean {
  try {
    const der = Buffer.concat([KEY_PREFIX, publicKey])
    return verify(null, message, createPublicKey({ key: der, format: 'der', type: 'spki' }), signature)
  } catch {
    return false
  }
}
