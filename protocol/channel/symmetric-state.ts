/** Noise's SymmetricState (section 5.2): chaining key, transcript hash, and the cipher that the keys so far yield. */
import { encodeText } from '../core/bytes.ts'
import { concatSecret, copySecret, wipe } from '../core/secret.ts'
import { CipherState } from './cipher-state.ts'
import type { Algorithms } from './suite.ts'

/** of every cipher; a longer hash output is cut (Noise 5.2) */
const KEY_BYTES = 32

export class SymmetricState {
  readonly #algorithms: Algorithms
  #chainingKey: Uint8Array
  #hash: Uint8Array
  #cipher: CipherState | undefined

  constructor(algorithms: Algorithms, protocolName: string) {
    this.#algorithms = algorithms
    const name = encodeText(protocolName)
    this.#hash = new Uint8Array(algorithms.hashBytes)
    if (name.length <= algorithms.hashBytes) this.#hash.set(name)
    else this.#hash = algorithms.hash(name)
    this.#chainingKey = copySecret(this.#hash)
  }

  /** The transcript so far; at the end of the handshake the value that binds it. */
  get hash(): Uint8Array {
    return this.#hash.slice()
  }

  mixHash(data: Uint8Array): void {
    // mixKeyAndHash mixes in what is derived from the keys
    const message = concatSecret(this.#hash, data)
    this.#hash = this.#algorithms.hash(message)
    wipe(message)
  }

  mixKey(material: Uint8Array): void {
    const [chainingKey, key] = this.#derive(material, 2)
    this.#advance(chainingKey as Uint8Array, key as Uint8Array)
  }

  mixKeyAndHash(material: Uint8Array): void {
    const [chainingKey, hashed, key] = this.#derive(material, 3)
    this.mixHash(hashed as Uint8Array)
    wipe(hashed)
    this.#advance(chainingKey as Uint8Array, key as Uint8Array)
  }

  encryptAndHash(plaintext: Uint8Array): Uint8Array {
    const ciphertext = this.#cipher ? this.#cipher.seal(plaintext, this.#hash) : plaintext.slice()
    this.mixHash(ciphertext)
    return ciphertext
  }

  decryptAndHash(ciphertext: Uint8Array): Uint8Array {
    const plaintext = this.#cipher ? this.#cipher.open(ciphertext, this.#hash) : ciphertext.slice()
    this.mixHash(ciphertext)
    return plaintext
  }

  get hasKey(): boolean {
    return this.#cipher !== undefined
  }

  /** The two transport ciphers, initiator's sending one first. Wipes this state. */
  split(): [CipherState, CipherState] {
    const [first, second] = this.#derive(new Uint8Array(0), 2) as [Uint8Array, Uint8Array]
    const ciphers: [CipherState, CipherState] = [
      new CipherState(this.#algorithms, first.subarray(0, KEY_BYTES)),
      new CipherState(this.#algorithms, second.subarray(0, KEY_BYTES)),
    ]
    wipe(first, second)
    this.wipe()
    return ciphers
  }

  wipe(): void {
    wipe(this.#chainingKey)
    this.#cipher?.wipe()
  }

  #advance(chainingKey: Uint8Array, key: Uint8Array): void {
    this.wipe()
    this.#chainingKey = chainingKey
    this.#cipher = new CipherState(this.#algorithms, key.subarray(0, KEY_BYTES))
    wipe(key)
  }

  /** HKDF of section 4.3: two or three outputs of the hash's length. */
  #derive(material: Uint8Array, outputs: 2 | 3): Uint8Array[] {
    const temporary = this.#algorithms.hmac(this.#chainingKey, material)
    const results: Uint8Array[] = []
    let previous: Uint8Array = new Uint8Array(0)
    for (let i = 1; i <= outputs; i++) {
      const message = concatSecret(previous, Uint8Array.of(i))
      previous = this.#algorithms.hmac(temporary, message)
      wipe(message)
      results.push(previous)
    }
    wipe(temporary)
    return results
  }
}
