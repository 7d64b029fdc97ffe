/** A suite that keeps hold of every secret and every key that goes through it, to tell afterwards which were not wiped. */
import type { Aead, KeyPair, Suite } from '../../protocol/channel/suite.ts'
import { encodeHex } from '../../protocol/core/bytes.ts'

/** Bytes with anything but zeros in them. */
export const holdsAnything = (bytes: Uint8Array) => bytes.some(byte => byte !== 0)

interface Recorded {
  readonly name: string
  readonly left: () => boolean
}

export interface RecordingSuite {
  readonly suite: Suite
  /** names of the secrets and keys that are not wiped */
  left(): string[]
  /** names of the secrets that lie in a buffer which V8 may move */
  moving(): string[]
  /** how many there were of that name */
  count(name: string): number
}

/** of all suites that record, for an end sees the other's too */
const publicKeys = new Set<string>()

export function recordingSuite(real: Suite): RecordingSuite {
  const recorded: Recorded[] = []
  const moving: string[] = []

  const secret = (name: string, bytes: Uint8Array) => {
    if (bytes.length > 0 && bytes.buffer.byteLength < 128) moving.push(name)
    recorded.push({ name, left: () => holdsAnything(bytes) })
    return bytes
  }
  const key = <K extends { wipe(): void }>(name: string, held: K, more: Partial<K> = {}): K => {
    let wiped = false
    recorded.push({ name, left: () => !wiped })
    const wipe = () => {
      wiped = true
      held.wipe()
    }
    return { ...held, ...more, wipe }
  }
  const pair = (held: KeyPair) => {
    publicKeys.add(encodeHex(held.publicKey))
    return key('key pair', held, { dh: async remote => secret('result of DH', await held.dh(remote)) })
  }
  const aead = (held: Aead) =>
    key('AEAD', held, {
      // what a rekey makes of it, and what an inner seal held
      seal(counter, associated, plaintext) {
        const sealed = held.seal(counter, associated, plaintext)
        return counter < 0 ? secret('next key', sealed) : sealed
      },
    })
  const suite: Suite = {
    ...real,
    generateKeyPair: () => pair(real.generateKeyPair()),
    importKeyPair: bytes => pair(real.importKeyPair(secret('imported key', bytes))),
    generateKemKeys() {
      const keys = real.generateKemKeys()
      return key('KEM keys', keys, { decapsulate: bytes => secret('KEM secret', keys.decapsulate(bytes)) })
    },
    encapsulate(publicKey) {
      const made = real.encapsulate(publicKey)
      secret('KEM secret', made.secret)
      return made
    },
    algorithms: {
      ...real.algorithms,
      hmac(hmacKey, message) {
        // Noise mixes ephemeral keys in too
        if (!publicKeys.has(encodeHex(message))) secret('what was derived from', message)
        return secret('derived', real.algorithms.hmac(hmacKey, message))
      },
      aead: bytes => aead(real.algorithms.aead(secret('key of an AEAD', bytes))),
    },
  }
  return {
    suite,
    left: () => recorded.filter(item => item.left()).map(item => item.name),
    moving: () => moving,
    count: name => recorded.filter(item => item.name === name).length,
  }
}

/**
 * The arrays, but the original, into which `run` copied bytes that hold `secret`, as they are afterwards: whoever copies
 * with set() (copySecret, concat, frames and records) is seen.
 */
export async function copiesOf(secret: Uint8Array, run: () => unknown): Promise<Uint8Array[]> {
  const copies: Uint8Array[] = []
  const needle = Buffer.from(secret)
  const real = Uint8Array.prototype.set
  Uint8Array.prototype.set = function (this: Uint8Array, source: ArrayLike<number>, offset = 0) {
    real.call(this, source, offset)
    if (source instanceof Uint8Array && Buffer.from(source.buffer, source.byteOffset, source.length).includes(needle)) {
      copies.push(this.subarray(offset, offset + source.length))
    }
  }
  try {
    await run()
  } finally {
    Uint8Array.prototype.set = real
  }
  return copies
}
