/** How a user proves an identity to the broker: a signature over the broker's challenge. SPEC §3.1 */
import { concat, decodeBase64url, encodeBase64url } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { labelled, sign, verify } from '../core/signing.ts'

const LABEL = 'mortar login v1'
const PROOF_LABEL = 'mortar broker v1'
const PREFIX = 'mortar1'

/** The public identity as people copy it: `mortar1` and base64url of the Ed25519 key and the X25519 key. */
export function formatIdentity(identity: { sign: Uint8Array; dh: Uint8Array }): string {
  return PREFIX + encodeBase64url(concat(identity.sign, identity.dh))
}

/** Reads a public identity. Fails with bad-request. */
export function parseIdentity(textual: string): { sign: Uint8Array; dh: Uint8Array } {
  try {
    if (!textual.startsWith(PREFIX) || textual.length > 128) throw new RangeError('no prefix')
    const keys = decodeBase64url(textual.slice(PREFIX.length))
    if (keys.length !== 64) throw new RangeError('wrong length')
    return { sign: keys.slice(0, 32), dh: keys.slice(32) }
  } catch (cause) {
    throw new MortarError('bad-request', `"${textual.slice(0, 140)}" is not a public identity (mortar1…)`, { cause })
  }
}

/** What a user signs at a login: the challenge (32 bytes) and the broker's own key, so that no other broker can use it. */
export function loginMessage(nonce: Uint8Array, broker: Uint8Array): Uint8Array {
  return labelled(LABEL, concat(nonce, broker))
}

export function signLogin(nonce: Uint8Array, broker: Uint8Array, seed: Uint8Array): Uint8Array {
  return sign(LABEL, concat(nonce, broker), seed)
}

export function verifyLogin(nonce: Uint8Array, broker: Uint8Array, signature: Uint8Array, user: Uint8Array): boolean {
  return nonce.length === 32 && verify(LABEL, concat(nonce, broker), signature, user)
}

/** What the broker signs to prove that it is the one whose key the client pinned: the same nonce, and the user's key. */
export function brokerProofMessage(nonce: Uint8Array, user: Uint8Array): Uint8Array {
  return labelled(PROOF_LABEL, concat(nonce, user))
}

export function signBrokerProof(nonce: Uint8Array, user: Uint8Array, seed: Uint8Array): Uint8Array {
  return sign(PROOF_LABEL, concat(nonce, user), seed)
}

export function verifyBrokerProof(
  nonce: Uint8Array,
  user: Uint8Array,
  signature: Uint8Array,
  broker: Uint8Array,
): boolean {
  return verify(PROOF_LABEL, concat(nonce, user), signature, broker)
}
