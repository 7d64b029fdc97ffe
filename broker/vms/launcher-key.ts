/**
 * The launcher's half of a sealed launch secret. Its key lives in this process only and is new at each start: what was
 * sealed to it cannot be opened afterwards. It opens launch secrets and nothing else; sessions are out of its reach. SPEC §2.6
 */
import {
  createDecipheriv,
  createPublicKey,
  diffieHellman,
  generateKeyPairSync,
  hkdfSync,
  type KeyObject,
} from 'node:crypto'
import { SEALED_SECRET, sealSalt } from '../../protocol/control/launcher.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { passSecret, takeSecret, wipe } from '../../protocol/core/secret.ts'

/** before the 32 bytes of an X25519 public key in DER (RFC 8410) */
const SPKI_PREFIX = Buffer.from('302a300506032b656e032100', 'hex')
const TAG_BYTES = 16

export class LauncherKey {
  readonly #private: KeyObject
  /** X25519, 32 bytes */
  readonly publicKey: Uint8Array

  constructor() {
    const { publicKey, privateKey } = generateKeyPairSync('x25519')
    this.#private = privateKey
    const der = publicKey.export({ format: 'der', type: 'spki' })
    this.publicKey = new Uint8Array(der.subarray(SPKI_PREFIX.length))
  }

  /** The launch secret, 32 bytes, the caller's to wipe. Fails with launcher-changed when it was sealed for another key, VM or launch. */
  open(sealed: Uint8Array, vm: string, launch: string): Uint8Array {
    const ephemeral = sealed.subarray(0, SEALED_SECRET.keyBytes)
    let shared: Buffer | undefined
    let key: Uint8Array | undefined
    let plaintext: Uint8Array | undefined
    try {
      const der = Buffer.concat([SPKI_PREFIX, ephemeral])
      shared = diffieHellman({
        privateKey: this.#private,
        publicKey: createPublicKey({ key: der, format: 'der', type: 'spki' }),
      })
      const salt = sealSalt(ephemeral, this.publicKey, vm, launch)
      key = takeSecret(new Uint8Array(hkdfSync('sha256', shared, salt, SEALED_SECRET.info, 32)))
      const decipher = createDecipheriv('chacha20-poly1305', key, new Uint8Array(12), { authTagLength: TAG_BYTES })
      decipher.setAuthTag(sealed.subarray(-TAG_BYTES))
      plaintext = passSecret(decipher, sealed.subarray(SEALED_SECRET.keyBytes, -TAG_BYTES))
      decipher.final()
      return plaintext
    } catch (cause) {
      wipe(plaintext)
      throw new MortarError('launcher-changed', vm, { cause })
    } finally {
      wipe(shared, key)
    }
  }
}
