/**
 * An identity: one secret of 32 bytes, from which every key of a user is derived (HKDF-SHA256): signatures, channel,
 * launch secrets, drive keys, the key that authenticates drive notes. Whoever has the seed has them all. SPEC §2.3
 */
import { hkdf } from '../../protocol/channel/derive.ts'
import type { KeyPair, Suite } from '../../protocol/channel/suite.ts'
import { formatIdentity } from '../../protocol/control/login.ts'
import { concat, encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { copySecret, wipe } from '../../protocol/core/secret.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'

export const SEED_BYTES = 32
export const DRIVE_SALT_BYTES = 32
const NO_SALT = new Uint8Array(0)

export class Identity {
  readonly #suite: Suite
  readonly #seed: Uint8Array
  #gone = false
  /** X25519, the initiator's static key in the channel */
  readonly keys: KeyPair
  /** Ed25519 public key, 32 bytes */
  readonly signKey: Uint8Array
  /** public identity as people copy it: mortar1… */
  readonly text: string

  private constructor(suite: Suite, seed: Uint8Array) {
    this.#suite = suite
    this.#seed = copySecret(seed)
    const secret = this.#derive('mortar identity dh v1')
    try {
      this.keys = suite.importKeyPair(secret)
    } finally {
      wipe(secret)
    }
    this.signKey = this.withSigningSeed(signingPublicKey)
    this.text = formatIdentity({ sign: this.signKey, dh: this.keys.publicKey })
  }

  /** A new identity from the host's random source. Wipe it when done. */
  static create(suite: Suite): Identity {
    const seed = suite.randomBytes(SEED_BYTES)
    try {
      return new Identity(suite, seed)
    } finally {
      wipe(seed)
    }
  }

  /** The identity of a seed (32 bytes), of which it takes a copy; the caller wipes its own. */
  static fromSeed(suite: Suite, seed: Uint8Array): Identity {
    if (seed.length !== SEED_BYTES) throw new RangeError(`a seed has ${SEED_BYTES} bytes`)
    return new Identity(suite, seed)
  }

  /** Lends the seed, for writing it to a file; gone when `use` returns. */
  withSeed<T>(use: (seed: Uint8Array) => T): T {
    const seed = copySecret(this.#present())
    try {
      return use(seed)
    } finally {
      wipe(seed)
    }
  }

  /** Lends the Ed25519 seed to what signs (signTicket, signLogin, signCertificate); gone when `use` returns. */
  withSigningSeed<T>(use: (seed: Uint8Array) => T): T {
    const seed = this.#derive('mortar identity sign v1')
    try {
      return use(seed)
    } finally {
      wipe(seed)
    }
  }

  /** HMAC-SHA256 under the key for drive notes, 32 bytes. */
  authenticateNote(message: Uint8Array): Uint8Array {
    const key = this.#derive('mortar identity note v1')
    try {
      return this.#suite.algorithms.hmac(key, message)
    } finally {
      wipe(key)
    }
  }

  /** The launch secret of one launch, 32 bytes; the owner's other devices derive the same. The caller wipes it. */
  launchSecret(vm: string, launch: string): Uint8Array {
    return hkdf(this.#suite, this.#present(), encodeText(vm + launch), 'mortar launch secret v1', 32)
  }

  /** The LUKS key of a drive, 64 bytes. `salt`: 32 bytes from the drive's note. The caller wipes it. */
  driveKey(drive: string, salt: Uint8Array): Uint8Array {
    if (salt.length !== DRIVE_SALT_BYTES) throw new RangeError(`a drive salt has ${DRIVE_SALT_BYTES} bytes`)
    return hkdf(this.#suite, this.#present(), concat(encodeText(drive), salt), 'mortar drive key v1', 64)
  }

  /** Forgets every secret; the identity cannot be used any more. */
  wipe(): void {
    this.#gone = true
    wipe(this.#seed)
    this.keys.wipe()
  }

  /** Fails once wiped: keys of a seed of zeros would be known to everyone. */
  #present(): Uint8Array {
    if (this.#gone) throw new MortarError('identity-missing', 'it was wiped')
    return this.#seed
  }

  #derive(info: string): Uint8Array {
    return hkdf(this.#suite, this.#present(), NO_SALT, info, 32)
  }
}
