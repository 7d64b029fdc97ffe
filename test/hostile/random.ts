/** Chance that can be repeated: every attack draws from a seed that is printed, so a finding can be made again. */
import type { Aead, KeyPair, Suite } from '../../protocol/channel/suite.ts'

export class Random {
  readonly #state: Uint32Array

  /** `seed`: any text. */
  constructor(seed: string) {
    // FNV-1a spreads the text over the state; four lanes so that no state is all zero
    this.#state = Uint32Array.from([1, 2, 3, 4], lane => {
      let hash = 2_166_136_261 ^ lane
      for (let i = 0; i < seed.length; i++) hash = Math.imul(hash ^ seed.charCodeAt(i), 16_777_619)
      return hash | 1
    })
    for (let i = 0; i < 16; i++) this.word()
  }

  /** 32 bits of xoshiro128**. */
  word(): number {
    const s = this.#state as unknown as [number, number, number, number]
    const product = Math.imul(s[1], 5)
    const result = Math.imul((product << 7) | (product >>> 25), 9) >>> 0
    const shifted = s[1] << 9
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= shifted
    s[3] = (s[3] << 11) | (s[3] >>> 21)
    return result
  }

  /** An integer from 0 to `limit` - 1. */
  below(limit: number): number {
    return Math.floor((this.word() / 2 ** 32) * limit)
  }

  bytes(length: number): Uint8Array<ArrayBuffer> {
    const bytes = new Uint8Array(length)
    let i = 0
    for (; i + 3 < length; i += 4) {
      const word = this.word()
      bytes[i] = word
      bytes[i + 1] = word >>> 8
      bytes[i + 2] = word >>> 16
      bytes[i + 3] = word >>> 24
    }
    for (; i < length; i++) bytes[i] = this.word() >>> 24
    return bytes
  }

  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T
  }

  uuid(): string {
    const hex = Buffer.from(this.bytes(16)).toString('hex')
    const variant = '89ab'.charAt(this.below(4))
    return `${hex.slice(0, 8)}-${hex.slice(8, 12)}-4${hex.slice(13, 16)}-${variant}${hex.slice(17, 20)}-${hex.slice(20)}`
  }
}

/** The suite with keys from the seed. The first pair it makes is the end's static one, and always the same. */
export function seededSuite(suite: Suite, random: Random, staticSecret: Uint8Array): Suite {
  let made = 0
  return {
    ...suite,
    generateKeyPair: () => suite.importKeyPair(made++ === 0 ? staticSecret : random.bytes(32)),
    randomBytes: length => random.bytes(length),
  }
}

/**
 * No channel at all: what is sealed is readable, whatever comes opens, every shared secret is zero. The harness must see
 * attacks succeed on it, or it could not see one.
 */
export function brokenSuite(suite: Suite): Suite {
  const open: Aead['open'] = (_counter, _associated, ciphertext) => ciphertext.slice(0, ciphertext.length - 16)
  const openToAll = (keys: KeyPair): KeyPair => ({ ...keys, dh: async () => new Uint8Array(32) })
  return {
    ...suite,
    generateKeyPair: () => openToAll(suite.generateKeyPair()),
    importKeyPair: secret => openToAll(suite.importKeyPair(secret)),
    generateKemKeys: () => ({ ...suite.generateKemKeys(), decapsulate: () => new Uint8Array(32) }),
    encapsulate: publicKey => ({ ...suite.encapsulate(publicKey), secret: new Uint8Array(32) }),
    algorithms: {
      ...suite.algorithms,
      aead: () => ({
        seal(_counter, _associated, plaintext) {
          const sealed = new Uint8Array(plaintext.length + 16)
          sealed.set(plaintext)
          return sealed
        },
        open,
        openSecret: open,
        wipe() {},
      }),
    },
  }
}
