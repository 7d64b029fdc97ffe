/** The second implementation of the channel: handshake and records, written from SPEC §5 and §6 alone. node:crypto, no code of ours. */
import { readFileSync } from 'node:fs'
import { cat, cbor, dh, dhPublic, fixed, hkdf, hmac, rekey, seal, sha256, sign, signPublic } from './second.mjs'

const NONE = Buffer.alloc(0)

/** SPEC §2.3: the keys of a user, of an agent in one boot, and of what both know of a launch */
export const userKeys = seed => ({
  sign: hkdf(seed, NONE, 'mortar identity sign v1', 32),
  dh: hkdf(seed, NONE, 'mortar identity dh v1', 32),
  note: hkdf(seed, NONE, 'mortar identity note v1', 32),
})
export const agentKeys = seed => ({
  sign: hkdf(seed, NONE, 'mortar agent sign v1', 32),
  dh: hkdf(seed, NONE, 'mortar agent dh v1', 32),
})
export const launchSecretOf = (seed, vm, launch) => hkdf(seed, Buffer.from(vm + launch), 'mortar launch secret v1', 32)
export const launchSeedOf = secret => hkdf(secret, NONE, 'mortar enrolment v1', 32)

/** SPEC §2.1 */
export function envelope(label, statement, seed) {
  const body = cbor(statement)
  return cbor({ body, key: signPublic(seed), signature: sign(label, body, seed) })
}

/** SPEC §5: the payloads of the three messages */
const hello = ({ contact, kem }) => ({ version: 1, contact, kem: kem.publicKey })
const answer = ({ kem, responder }) => ({ kem: kem.ciphertext, sign: signPublic(agentKeys(responder.seed).sign) })
const last = ({ grant }) => (grant ? { grant } : {})

/** SPEC §5.1 */
function prologueOf({ broker, vm, launch, session }) {
  const fields = ['mortar channel', [1], broker, vm, launch, session].map(field => Buffer.from(field))
  return cat(...fields.flatMap(field => [[field.length >> 8, field.length & 255], field]))
}

function noiseHkdf(chainingKey, material, outputs) {
  const temporary = hmac(chainingKey, material)
  const results = []
  for (let i = 1; i <= outputs; i++) results.push(hmac(temporary, cat(results.at(-1) ?? [], [i])))
  return results
}

/** ML-KEM-768 encapsulates by chance: some keys, ciphertexts and secrets to take instead. */
export function kems() {
  const read = JSON.parse(readFileSync(new URL('kem.json', import.meta.url), 'utf8'))
  return read.map(kem =>
    Object.fromEntries(Object.entries(kem).map(([name, text]) => [name, Buffer.from(text, 'hex')])),
  )
}

/** One direction's records: SPEC §6, §6.2 */
class Records {
  constructor(key) {
    this.key = key
    this.counter = 0
  }
  seal(plaintext, { secret = false } = {}) {
    const sealed = seal(this.key, this.counter++, NONE, plaintext)
    if (this.counter % 65_536 === 0) this.key = rekey(this.key)
    if (secret) this.key = rekey(this.key)
    return sealed
  }
}

/** The three messages, what they yield, and the records of both directions. */
export function handshake(input) {
  const { initiator, responder, kem, contact, launchSecret, facts } = input
  const prologue = prologueOf(facts)
  let h = sha256(Buffer.from('Noise_XKpsk3_25519_ChaChaPoly_SHA256'))
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
    const sealed = seal(key, counter++, h, plaintext)
    mixHash(sealed)
    return sealed
  }
  // a psk pattern mixes every e into the key as well
  const ephemeral = secret => {
    mixHash(dhPublic(secret))
    mixKey(dhPublic(secret))
    return dhPublic(secret)
  }
  mixHash(prologue)
  mixHash(dhPublic(responder.s))
  // -> e, es
  const first = ephemeral(initiator.e)
  mixKey(dh(initiator.e, dhPublic(responder.s)))
  const message1 = cat(first, encrypt(cbor(hello(input))))
  // <- e, ee
  const second = ephemeral(responder.e)
  mixKey(dh(responder.e, dhPublic(initiator.e)))
  const message2 = cat(second, encrypt(cbor(answer(input))))
  // -> s, se, psk
  const sealedStatic = encrypt(dhPublic(initiator.s))
  mixKey(dh(initiator.s, dhPublic(responder.e)))
  const material = cat(kem.secret, contact === 'first' ? launchSecret : Buffer.alloc(32))
  const psk = hkdf(material, sha256(prologue), 'mortar channel psk v1', 32)
  const [nextCk, mixed, nextKey] = noiseHkdf(ck, psk, 3)
  ck = nextCk
  mixHash(mixed)
  key = nextKey
  counter = 0
  const message3 = cat(sealedStatic, encrypt(cbor(last(input))))
  const [toAgent, toClient] = noiseHkdf(ck, NONE, 2)
  return {
    prologue,
    psk,
    messages: [message1, message2, message3],
    transcriptHash: h,
    client: new Records(toAgent),
    agent: new Records(toClient),
  }
}

/** Inputs of a handshake for a name: who meets whom, with which keys. `caller`: whose identity seed, the owner's unless given. */
export function meeting(name, contact, kem, { caller = 'owner' } = {}) {
  const seeds = { owner: fixed(`owner ${name}`), grantee: fixed(`grantee ${name}`), agent: fixed(`boot ${name}`) }
  const uuid = label => {
    const text = fixed(`${label} ${name}`).toString('hex')
    return `${text.slice(0, 8)}-${text.slice(8, 12)}-4${text.slice(13, 16)}-8${text.slice(17, 20)}-${text.slice(20, 32)}`
  }
  const facts = {
    broker: signPublic(fixed(`broker ${name}`)),
    vm: uuid('vm'),
    launch: uuid('launch'),
    session: uuid('session'),
  }
  return {
    name,
    contact,
    facts,
    ownerDh: dhPublic(userKeys(seeds.owner).dh),
    initiator: { seed: seeds[caller], s: userKeys(seeds[caller]).dh, e: fixed(`client ephemeral ${name}`) },
    responder: { seed: seeds.agent, s: agentKeys(seeds.agent).dh, e: fixed(`agent ephemeral ${name}`) },
    kem,
    launchSecret: launchSecretOf(seeds.owner, facts.vm, facts.launch),
    ...(caller === 'grantee' && { owner: signPublic(userKeys(seeds.owner).sign) }),
  }
}

/** A grant of the owner of a meeting to its caller. SPEC §2.7 */
export function grantFor({ name, facts, initiator }, more) {
  const grantee = userKeys(initiator.seed)
  const statement = {
    version: 1,
    vm: facts.vm,
    grantee: signPublic(grantee.sign),
    granteeDh: dhPublic(grantee.dh),
    role: 'user',
    permissions: ['info', 'exec'],
    drives: [],
    targets: [],
    expires: 4_102_444_800,
    serial: 1,
    ...more,
  }
  return envelope('mortar grant v1', statement, userKeys(fixed(`owner ${name}`)).sign)
}
