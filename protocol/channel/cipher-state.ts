/** Noise's CipherState (section 5.1): one AEAD key and its counter. */
import { MortarError } from '../core/errors.ts'
import { newSecret, wipe } from '../core/secret.ts'
import { type Aead, type Algorithms, REKEY_COUNTER } from './suite.ts'

const NONE = new Uint8Array(0)
const KEY_BYTES = 32
const ZEROS = newSecret(KEY_BYTES)

export class CipherState {
  readonly #algorithms: Algorithms
  #aead: Aead
  #counter = 0

  /** Takes a copy of `key`; the caller wipes its own. */
  constructor(algorithms: Algorithms, key: Uint8Array) {
    this.#algorithms = algorithms
    this.#aead = algorithms.aead(key)
  }

  get counter(): number {
    return this.#counter
  }

  seal(plaintext: Uint8Array, associated: Uint8Array = NONE): Uint8Array {
    const sealed = this.#aead.seal(this.#counter, associated, plaintext)
    this.#counter++
    return sealed
  }

  /** Fails with record-invalid; the counter then stays, as Noise demands. */
  open(ciphertext: Uint8Array, associated: Uint8Array = NONE): Uint8Array {
    const plaintext = ciphertext.length < 16 ? null : this.#aead.open(this.#counter, associated, ciphertext)
    if (!plaintext) throw new MortarError('record-invalid')
    this.#counter++
    return plaintext
  }

  /** Rekey() of section 4.2: the next key is the first 32 bytes of 32 zeros sealed under the reserved counter. */
  rekey(): void {
    const sealed = this.#aead.seal(REKEY_COUNTER, NONE, ZEROS)
    this.#aead.wipe()
    this.#aead = this.#algorithms.aead(sealed.subarray(0, KEY_BYTES))
    wipe(sealed)
  }

  wipe(): void {
    this.#aead.wipe()
  }
}
