/**
 * Wycheproof's vectors (test/vectors/wycheproof) through our own wrappers, with either back end. What chooses its own
 * nonces, keys and randomness in the product is given the vector's for as long as that vector runs.
 */
import crypto, { createPrivateKey, createPublicKey } from 'node:crypto'
import { readFileSync } from 'node:fs'
import { syncBuiltinESMExports } from 'node:module'
import { ml_kem768 } from '@noble/post-quantum/ml-kem.js'
import { hkdf } from '../../protocol/channel/derive.ts'
import { NONCES } from '../../protocol/channel/nonce.ts'
import type { CipherName, KemKeys } from '../../protocol/channel/suite.ts'
import { decodeHex, encodeHex } from '../../protocol/core/bytes.ts'
import { verifyBytes } from '../../protocol/core/signing.ts'
import type { BACKENDS } from './backends.ts'
import type { Backend } from './noise-vector.ts'

type Row = Readonly<Record<string, string>> & { readonly tcId: number; readonly size: number; readonly result: string }
type Group = Readonly<Record<string, unknown>> & { readonly tests: readonly Row[] }
/** `not ours`: the vector's nonce or key has a size that the wrapper has no way to be given */
export type Verdict = 'right' | 'wrong' | 'not ours'
type Run = (row: Row, backend: Backend, group: Group, name: keyof typeof BACKENDS) => Verdict | Promise<Verdict>

export interface VectorSet {
  /** of `test/vectors/wycheproof/NAME_test.json` */
  readonly name: string
  /** vectors in the file */
  readonly count: number
  /** those of them that are `not ours` */
  readonly notOurs: number
  readonly run: Run
}

const hex = (row: Row, member: string) => decodeHex(row[member] ?? '')
const same = (seen: Uint8Array | null, expected = '') => seen !== null && encodeHex(seen) === expected
const verdict = (right: boolean): Verdict => (right ? 'right' : 'wrong')
const KEY_BYTES = 32
const NONCE_BYTES = 12
const SEED_BYTES = 64
const ENCAPSULATION_KEY_BYTES = 1184

/** What `run` gives, or null when it refuses. */
async function orNull<T>(run: () => T | Promise<T>): Promise<T | null> {
  try {
    return await run()
  } catch {
    return null
  }
}

/** The vectors are of X25519 alone; a point of low order, whose secret is zero, must be refused. */
const x25519: Run = async (row, { suite }) => {
  const shared = await orNull(() => suite.importKeyPair(hex(row, 'private')).dh(hex(row, 'public')))
  return verdict(/^0*$/.test(row.shared ?? '') ? shared === null : same(shared, row.shared))
}

const aead =
  (cipher: CipherName): Run =>
  (row, { algorithmsOf }) => {
    const [key, nonce] = [hex(row, 'key'), hex(row, 'iv')]
    if (key.length !== KEY_BYTES || nonce.length !== NONCE_BYTES) return 'not ours'
    const writers = NONCES as Record<CipherName, (written: Uint8Array) => void>
    const counting = writers[cipher]
    writers[cipher] = written => written.set(nonce)
    try {
      const held = algorithmsOf(cipher, 'SHA256').aead(key)
      const sealed = `${row.ct}${row.tag}`
      const opened = held.open(0, hex(row, 'aad'), decodeHex(sealed))
      if (row.result !== 'valid') return verdict(opened === null)
      return verdict(same(opened, row.msg) && same(held.seal(0, hex(row, 'aad'), hex(row, 'msg')), sealed))
    } finally {
      writers[cipher] = counting
    }
  }

/** One library for both back ends: only public data goes through it. */
const ed25519: Run = (row, _backend, group) => {
  const { pk } = group.publicKey as { pk: string }
  return verdict(verifyBytes(hex(row, 'msg'), hex(row, 'sig'), decodeHex(pk)) === (row.result === 'valid'))
}

const hkdfSha256: Run = async (row, { suite }) => {
  const made = await orNull(() => hkdf(suite, hex(row, 'ikm'), hex(row, 'salt'), hex(row, 'info'), row.size))
  return verdict(row.result === 'valid' ? same(made, row.okm) : made === null)
}

/** Runs with `bytes` as the next that the system's source of chance gives. */
function withChance<T>(bytes: Uint8Array, run: () => T): T {
  Object.defineProperty(globalThis.crypto, 'getRandomValues', {
    configurable: true,
    value(into: Uint8Array) {
      if (into.length !== bytes.length) throw new RangeError(`${into.length} bytes of chance, not ${bytes.length}`)
      into.set(bytes)
      return into
    },
  })
  try {
    return run()
  } finally {
    // the own property goes, and the real one is seen again
    Reflect.deleteProperty(globalThis.crypto, 'getRandomValues')
  }
}

/** before the 64 bytes of a seed of ML-KEM-768 in PKCS #8 (RFC 9935) */
const KEM_PKCS8_PREFIX = decodeHex('3054020100300b060960864801650304040204428040')

/** Keys of the wrapper's own making, from the vector's seed in place of chance. */
function kemKeysFrom(seed: Uint8Array, { suite }: Backend, name: keyof typeof BACKENDS): KemKeys {
  if (name === 'noble') return withChance(seed, () => suite.generateKemKeys())
  const real = crypto.generateKeyPairSync
  const fromSeed = () => {
    const key = Buffer.concat([KEM_PKCS8_PREFIX, seed])
    const privateKey = createPrivateKey({ key, format: 'der', type: 'pkcs8' })
    return { privateKey, publicKey: createPublicKey(privateKey) }
  }
  crypto.generateKeyPairSync = fromSeed as unknown as typeof real
  syncBuiltinESMExports()
  try {
    return suite.generateKemKeys()
  } finally {
    crypto.generateKeyPairSync = real
    syncBuiltinESMExports()
  }
}

const kem: Run = async (row, backend, _group, name) => {
  if (hex(row, 'seed').length !== SEED_BYTES) return 'not ours'
  const secret = await orNull(() => {
    const keys = kemKeysFrom(hex(row, 'seed'), backend, name)
    if (row.ek !== undefined && !same(keys.publicKey, row.ek)) throw new Error('another encapsulation key')
    return keys.decapsulate(hex(row, 'c'))
  })
  return verdict(row.result === 'valid' ? same(secret, row.K) : secret === null)
}

const kemKeys: Run = async (row, backend, _group, name) => {
  const keys = await orNull(() => kemKeysFrom(hex(row, 'seed'), backend, name))
  if (!keys || !same(keys.publicKey, row.ek)) return 'wrong'
  const { ciphertext, secret } = backend.suite.encapsulate(hex(row, 'ek'))
  const opened = ml_kem768.decapsulate(ciphertext as Uint8Array<ArrayBuffer>, hex(row, 'dk') as Uint8Array<ArrayBuffer>)
  return verdict(same(opened, encodeHex(secret)))
}

/** OpenSSL draws the message itself, so of a true key only its being taken is seen here; the keys' set opens what it made. */
const encapsulation: Run = async (row, { suite }, _group, name) => {
  const key = hex(row, 'ek')
  const encapsulate = () => suite.encapsulate(key)
  const made = await orNull(() => (name === 'noble' ? withChance(hex(row, 'm'), encapsulate) : encapsulate()))
  if (row.result !== 'valid') return verdict(made === null)
  if (!made || key.length !== ENCAPSULATION_KEY_BYTES) return 'wrong'
  return verdict(name === 'native' || (same(made.ciphertext, row.c) && same(made.secret, row.K)))
}

export const WYCHEPROOF: readonly VectorSet[] = [
  { name: 'x25519', count: 518, notOurs: 0, run: x25519 },
  { name: 'chacha20_poly1305', count: 325, notOurs: 9, run: aead('ChaChaPoly') },
  { name: 'aes_gcm', count: 316, notOurs: 250, run: aead('AESGCM') },
  { name: 'ed25519', count: 151, notOurs: 0, run: ed25519 },
  { name: 'hkdf_sha256', count: 86, notOurs: 0, run: hkdfSha256 },
  { name: 'mlkem_768', count: 193, notOurs: 20, run: kem },
  { name: 'mlkem_768_encaps', count: 265, notOurs: 0, run: encapsulation },
  { name: 'mlkem_768_keygen_seed', count: 100, notOurs: 0, run: kemKeys },
]

export interface SetResult {
  readonly right: number
  readonly notOurs: number
  /** numbers of the vectors that came out otherwise than the file says */
  readonly wrong: readonly number[]
}

/** Runs every vector of a set through one back end. */
export async function runVectorSet(set: VectorSet, backend: Backend, name: keyof typeof BACKENDS): Promise<SetResult> {
  const path = new URL(`../vectors/wycheproof/${set.name}_test.json`, import.meta.url)
  const { testGroups } = JSON.parse(readFileSync(path, 'utf8')) as { testGroups: readonly Group[] }
  let [right, notOurs] = [0, 0]
  const wrong: number[] = []
  for (const group of testGroups) {
    for (const row of group.tests) {
      const said = await set.run(row, backend, group, name)
      if (said === 'right') right++
      else if (said === 'not ours') notOurs++
      else wrong.push(row.tcId)
    }
  }
  return { right, notOurs, wrong }
}
