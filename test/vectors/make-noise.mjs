/**
 * A second implementation of Noise, written from its specification (revision 34) alone: node:crypto, no code of ours. Prints
 * vectors in the format of cacophony, the same at each run:
 *
 *   node test/vectors/make-noise.mjs > test/vectors/noise-patterns.json
 *   node test/vectors/make-noise.mjs --all       every pattern × psk set × cipher × hash, 3 MB
 */
import * as crypto from 'node:crypto'
import { cat, dh, dhPublic, plain, seal } from './second.mjs'

// sections 7.4, 7.5 and 18.1: name, what is known beforehand, messages; `→` is the initiator's, `←` the responder's
const PATTERNS = `
  N     ← s        ...  → e, es
  K     → s ← s    ...  → e, es, ss
  X     ← s        ...  → e, es, s, ss

  NN                    → e                ← e, ee
  NK    ← s        ...  → e, es            ← e, ee
  NX                    → e                ← e, ee, s, es
  KN    → s        ...  → e                ← e, ee, se
  KK    → s ← s    ...  → e, es, ss        ← e, ee, se
  KX    → s        ...  → e                ← e, ee, se, s, es
  XN                    → e                ← e, ee                → s, se
  XK    ← s        ...  → e, es            ← e, ee                → s, se
  XX                    → e                ← e, ee, s, es         → s, se
  IN                    → e, s             ← e, ee, se
  IK    ← s        ...  → e, es, s, ss     ← e, ee, se
  IX                    → e, s             ← e, ee, se, s, es

  NK1   ← s        ...  → e                ← e, ee, es
  NX1                   → e                ← e, ee, s             → es
  X1N                   → e                ← e, ee                → s          ← se
  X1K   ← s        ...  → e, es            ← e, ee                → s          ← se
  XK1   ← s        ...  → e                ← e, ee, es            → s, se
  X1K1  ← s        ...  → e                ← e, ee, es            → s          ← se
  X1X                   → e                ← e, ee, s, es         → s          ← se
  XX1                   → e                ← e, ee, s             → es, s, se
  X1X1                  → e                ← e, ee, s             → es, s      ← se
  K1N   → s        ...  → e                ← e, ee                → se
  K1K   → s ← s    ...  → e, es            ← e, ee                → se
  KK1   → s ← s    ...  → e                ← e, ee, se, es
  K1K1  → s ← s    ...  → e                ← e, ee, es            → se
  K1X   → s        ...  → e                ← e, ee, s, es         → se
  KX1   → s        ...  → e                ← e, ee, se, s         → es
  K1X1  → s        ...  → e                ← e, ee, s             → se, es
  I1N                   → e, s             ← e, ee                → se
  I1K   ← s        ...  → e, es, s         ← e, ee                → se
  IK1   ← s        ...  → e, s             ← e, ee, se, es
  I1K1  ← s        ...  → e, s             ← e, ee, es            → se
  I1X                   → e, s             ← e, ee, s, es         → se
  IX1                   → e, s             ← e, ee, se, s         → es
  I1X1                  → e, s             ← e, ee, s             → se, es
`
const CIPHERS = ['ChaChaPoly', 'AESGCM']
const HASHES = { SHA256: 'sha256', SHA512: 'sha512', BLAKE2s: 'blake2s256', BLAKE2b: 'blake2b512' }

/** Messages as [from the initiator?, tokens] */
function messagesOf(text) {
  return [...text.matchAll(/([→←]) ([a-z, ]*[a-z])/g)].map(([, arrow, tokens]) => [arrow === '→', tokens.split(', ')])
}

function patterns() {
  const lines = PATTERNS.split('\n').filter(line => line.trim() !== '')
  return lines.map(line => {
    const [, name, rest] = /^\s*(\w+)\s+(.*)$/.exec(line)
    const [before, after] = rest.includes('...') ? rest.split('...') : ['', rest]
    const known = messagesOf(before).map(([initiator]) => (initiator ? 'init' : 'resp'))
    return { name, known, messages: messagesOf(after) }
  })
}

/** Section 9.1: psk0 begins the first message, pskN ends message N. */
function withPsks({ messages }, psks) {
  const result = messages.map(([initiator, tokens]) => [initiator, [...tokens]])
  for (const place of psks) {
    if (place === 0) result[0][1].unshift('psk')
    else result[place - 1][1].push('psk')
  }
  return result
}

/** SymmetricState of section 5.2 */
class Symmetric {
  constructor(name, cipher, digest) {
    this.cipher = cipher
    this.digest = digest
    const bytes = Buffer.from(name)
    const length = this.hash('').length
    this.h = bytes.length <= length ? cat(bytes, Buffer.alloc(length - bytes.length)) : this.hash(bytes)
    this.ck = this.h
    this.k = null
  }
  hash(data) {
    return crypto.createHash(this.digest).update(data).digest()
  }
  hkdf(material, outputs) {
    const hmac = (key, data) => crypto.createHmac(this.digest, key).update(data).digest()
    const temporary = hmac(this.ck, material)
    const results = []
    for (let i = 1; i <= outputs; i++) results.push(hmac(temporary, cat(results.at(-1) ?? [], [i])))
    return results
  }
  mixHash(data) {
    this.h = this.hash(cat(this.h, data))
  }
  setKey(key) {
    this.k = key.subarray(0, 32)
    this.n = 0
  }
  mixKey(material) {
    const [ck, key] = this.hkdf(material, 2)
    this.ck = ck
    this.setKey(key)
  }
  mixKeyAndHash(material) {
    const [ck, mixed, key] = this.hkdf(material, 3)
    this.ck = ck
    this.mixHash(mixed)
    this.setKey(key)
  }
  encryptAndHash(plaintext) {
    const text = this.k ? seal(this.k, this.n++, this.h, plaintext, this.cipher) : plaintext
    this.mixHash(text)
    return text
  }
  split() {
    return this.hkdf(Buffer.alloc(0), 2).map(key => key.subarray(0, 32))
  }
}

function vector(pattern, psks, cipher, hashName) {
  const name = `Noise_${pattern.name}${psks.map(place => `psk${place}`).join('+')}_25519_${cipher}_${hashName}`
  const bytes = (label, length = 32) =>
    crypto.createHash('sha512').update(`${name} ${label}`).digest().subarray(0, length)
  const keys = {
    init: { s: bytes('initiator static'), e: bytes('initiator ephemeral') },
    resp: { s: bytes('responder static'), e: bytes('responder ephemeral') },
  }
  const pskKeys = psks.map(place => bytes(`psk ${place}`))
  const prologue = bytes('prologue', 7)
  const state = new Symmetric(name, cipher, HASHES[hashName])
  state.mixHash(prologue)
  for (const side of pattern.known) state.mixHash(dhPublic(keys[side].s))

  const handshake = withPsks(pattern, psks)
  const messages = []
  const waiting = [...pskKeys]
  for (const [initiator, tokens] of handshake) {
    const own = initiator ? keys.init : keys.resp
    const parts = []
    for (const token of tokens) {
      if (token === 'e') {
        const key = dhPublic(own.e)
        parts.push(key)
        state.mixHash(key)
        // section 9.2
        if (psks.length > 0) state.mixKey(key)
      } else if (token === 's') parts.push(state.encryptAndHash(dhPublic(own.s)))
      else if (token === 'psk') state.mixKeyAndHash(waiting.shift())
      else state.mixKey(dh(keys.init[token[0]], dhPublic(keys.resp[token[1]])))
    }
    // an empty payload in the second message, if there is one
    const payload = bytes(`payload ${messages.length}`, messages.length === 1 ? 0 : 3 + messages.length)
    messages.push({ payload, ciphertext: cat(...parts, state.encryptAndHash(payload)) })
  }
  const oneWay = handshake.length === 1
  const ciphers = state.split().map(key => ({ key, n: 0 }))
  // two each way, which is two counters each; all one way where there is one
  for (let i = messages.length; i < handshake.length + 4; i++) {
    const from = ciphers[oneWay || i % 2 === 0 ? 0 : 1]
    const payload = bytes(`payload ${i}`, i)
    messages.push({ payload, ciphertext: seal(from.key, from.n++, Buffer.alloc(0), payload, cipher) })
  }
  return inCacophonysWords({ name, prologue, pattern, handshake, keys, pskKeys, oneWay, hash: state.h, messages })
}

function inCacophonysWords({ name, prologue, pattern, handshake, keys, pskKeys, oneWay, hash, messages }) {
  const sends = (initiator, token) => handshake.some(([from, tokens]) => from === initiator && tokens.includes(token))
  const has = side => pattern.known.includes(side) || sends(side === 'init', 's')
  const known = side => (pattern.known.includes(side) ? dhPublic(keys[side].s) : undefined)
  const members = {
    protocol_name: name,
    init_prologue: prologue,
    resp_prologue: prologue,
    init_static: has('init') ? keys.init.s : undefined,
    init_ephemeral: keys.init.e,
    init_remote_static: known('resp'),
    resp_static: has('resp') ? keys.resp.s : undefined,
    resp_ephemeral: oneWay ? undefined : keys.resp.e,
    resp_remote_static: known('init'),
    init_psks: pskKeys.length > 0 ? pskKeys : undefined,
    resp_psks: pskKeys.length > 0 ? pskKeys : undefined,
    handshake_hash: hash,
    messages,
  }
  return plain(members)
}

/** Each psk alone, the first and last together, and one more of those in between */
function pskSets(count) {
  const last = count
  const single = Array.from({ length: count + 1 }, (_, place) => [place])
  return [[], ...single, [0, last], ...(last > 1 ? [[0, 1, last]] : [])]
}

/** All hashes for the plain patterns; with psks each cipher with one hash, another each time. */
function vectors(all) {
  const found = []
  let turn = 0
  for (const pattern of patterns()) {
    for (const psks of pskSets(pattern.messages.length)) {
      const hashes = Object.keys(HASHES)
      for (const cipher of CIPHERS) {
        const some = all || psks.length === 0 ? hashes : [hashes[turn++ % hashes.length]]
        for (const hash of some) found.push(vector(pattern, psks, cipher, hash))
      }
      turn++
    }
  }
  return found
}

const lines = vectors(process.argv.includes('--all')).map(item => JSON.stringify(item))
console.log(`{"source": "test/vectors/make-noise.mjs", "vectors": [\n${lines.join(',\n')}\n]}`)
