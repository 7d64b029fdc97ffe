/**
 * A second implementation of the channel's handshake, written from SPEC §5 alone: node:crypto, no code of ours. Prints the
 * vectors of channel.json: `node test/vectors/make-channel.mjs > test/vectors/channel.json` makes new ones.
 */
import * as crypto from 'node:crypto'

const hex = bytes => Buffer.from(bytes).toString('hex')
const cat = (...parts) => Buffer.concat(parts.map(part => Buffer.from(part)))
const sha256 = data => crypto.createHash('sha256').update(data).digest()
const hmac = (key, data) => crypto.createHmac('sha256', key).update(data).digest()

// X25519 keys from raw bytes, by JWK
const b64 = bytes => Buffer.from(bytes).toString('base64url')
function publicOf(secret) {
  const prefix = Buffer.from('302e020100300506032b656e04220420', 'hex')
  const key = crypto.createPrivateKey({ key: cat(prefix, secret), format: 'der', type: 'pkcs8' })
  return Buffer.from(crypto.createPublicKey(key).export({ format: 'jwk' }).x, 'base64url')
}
function dh(secret, remote) {
  const own = { kty: 'OKP', crv: 'X25519', d: b64(secret), x: b64(publicOf(secret)) }
  return crypto.diffieHellman({
    privateKey: crypto.createPrivateKey({ key: own, format: 'jwk' }),
    publicKey: crypto.createPublicKey({ key: { kty: 'OKP', crv: 'X25519', x: b64(remote) }, format: 'jwk' }),
  })
}

// ChaCha20-Poly1305 with a 64-bit little-endian counter behind four zero bytes
function seal(key, counter, associated, plaintext) {
  const nonce = Buffer.alloc(12)
  nonce.writeBigUInt64LE(BigInt(counter), 4)
  const cipher = crypto.createCipheriv('chacha20-poly1305', key, nonce, { authTagLength: 16 })
  cipher.setAAD(associated, { plaintextLength: plaintext.length })
  return cat(cipher.update(plaintext), cipher.final(), cipher.getAuthTag())
}

// CBOR as far as the payloads need it: maps with short text keys, sorted by length and then by bytes
function head(major, value) {
  if (value < 24) return Buffer.of((major << 5) | value)
  if (value < 256) return Buffer.of((major << 5) | 24, value)
  return Buffer.of((major << 5) | 25, value >> 8, value & 255)
}
function cbor(value) {
  if (typeof value === 'number') return head(0, value)
  if (typeof value === 'string') return cat(head(3, Buffer.byteLength(value)), Buffer.from(value))
  if (value instanceof Uint8Array) return cat(head(2, value.length), value)
  const entries = Object.entries(value).map(([name, item]) => [cbor(name), cbor(item)])
  entries.sort(([a], [b]) => Buffer.compare(a, b))
  return cat(head(5, entries.length), ...entries.flat())
}

// HKDF of RFC 5869 for the psk, and of Noise for the chaining key
const hkdf = (ikm, salt, info, length) => Buffer.from(crypto.hkdfSync('sha256', ikm, salt, info, length))
function noiseHkdf(chainingKey, material, outputs) {
  const temporary = hmac(chainingKey, material)
  const results = []
  for (let i = 1; i <= outputs; i++) results.push(hmac(temporary, cat(results.at(-1) ?? [], Buffer.of(i))))
  return results
}

function prologueOf({ broker, vm, launch, session }) {
  const fields = [Buffer.from('mortar channel'), Buffer.of(1), broker, Buffer.from(vm), Buffer.from(launch), Buffer.from(session)]
  return cat(...fields.flatMap(field => [Buffer.of(field.length >> 8, field.length & 255), field]))
}

/** The three messages, the transcript hash and the first two records each way. */
function run(input) {
  const { initiator, responder, kem, contact, launchSecret, facts } = input
  const prologue = prologueOf(facts)
  const name = Buffer.from('Noise_XKpsk3_25519_ChaChaPoly_SHA256')
  let h = name.length <= 32 ? cat(name, Buffer.alloc(32 - name.length)) : sha256(name)
  let ck = h
  let key
  let counter = 0
  const mixHash = data => {
    h = sha256(cat(h, data))
  }
  const mixKey = material => {
    ;[ck, key] = noiseHkdf(ck, material, 2)
    counter = 0
  }
  const encrypt = plaintext => {
    const sealed = key ? seal(key, counter++, h, plaintext) : Buffer.from(plaintext)
    mixHash(sealed)
    return sealed
  }
  mixHash(prologue)
  mixHash(publicOf(responder.s))
  const messages = []
  // -> e, es   (a psk pattern mixes every e into the key as well)
  mixHash(publicOf(initiator.e))
  mixKey(publicOf(initiator.e))
  mixKey(dh(initiator.e, publicOf(responder.s)))
  messages.push(cat(publicOf(initiator.e), encrypt(cbor({ version: 1, contact, kem: kem.publicKey }))))
  // <- e, ee
  mixHash(publicOf(responder.e))
  mixKey(publicOf(responder.e))
  mixKey(dh(responder.e, publicOf(initiator.e)))
  messages.push(cat(publicOf(responder.e), encrypt(cbor({ kem: kem.ciphertext, sign: responder.sign }))))
  // -> s, se, psk
  const sealedStatic = encrypt(publicOf(initiator.s))
  mixKey(dh(initiator.s, publicOf(responder.e)))
  const material = cat(kem.secret, contact === 'first' ? launchSecret : Buffer.alloc(32))
  const psk = hkdf(material, sha256(prologue), 'mortar channel psk v1', 32)
  const [nextCk, mixed, nextKey] = noiseHkdf(ck, psk, 3)
  ck = nextCk
  mixHash(mixed)
  key = nextKey
  counter = 0
  messages.push(cat(sealedStatic, encrypt(cbor({}))))
  const [toResponder, toInitiator] = noiseHkdf(ck, Buffer.alloc(0), 2)
  const none = Buffer.alloc(0)
  const records = text => [0, 1].map(i => Buffer.from(`${text} ${i}`))
  return {
    prologue: hex(prologue),
    psk: hex(psk),
    messages: messages.map(hex),
    handshakeHash: hex(h),
    fromInitiator: records('from the client').map((record, i) => hex(seal(toResponder, i, none, record))),
    fromResponder: records('from the agent').map((record, i) => hex(seal(toInitiator, i, none, record))),
  }
}

const fixed = label => sha256(Buffer.from(`mortar test vector: ${label}`))
const vectors = ['first', 'known'].map(contact => {
  const pair = crypto.generateKeyPairSync('ml-kem-768')
  const { ciphertext, sharedKey } = crypto.encapsulate(pair.publicKey)
  const input = {
    contact,
    facts: {
      broker: fixed('broker'),
      vm: '11111111-1111-4111-8111-111111111111',
      launch: '22222222-2222-4222-8222-222222222222',
      session: '33333333-3333-4333-8333-333333333333',
    },
    initiator: { s: fixed('client static'), e: fixed(`client ephemeral ${contact}`) },
    responder: { s: fixed('agent static'), e: fixed(`agent ephemeral ${contact}`), sign: fixed('agent sign') },
    kem: {
      publicKey: pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-1184),
      ciphertext,
      secret: sharedKey,
    },
    launchSecret: fixed('launch secret'),
  }
  const plain = JSON.parse(JSON.stringify(input, (_, value) => (value?.type === 'Buffer' ? hex(value.data) : value)))
  return { ...plain, expected: run(input) }
})
console.log(JSON.stringify({ source: 'test/vectors/make-channel.mjs', vectors }, null, 2))
