/**
 * Prints the vectors of the channel by the second implementation (second-channel.mjs), the same at each run:
 *
 *   node test/vectors/make-channel.mjs > test/vectors/channel.json
 *
 * ML-KEM encapsulates by chance, so its keys, ciphertexts and secrets are kept in kem.json: `node test/vectors/make-channel.mjs
 * --kem > test/vectors/kem.json` makes others.
 */
import * as crypto from 'node:crypto'
import { plain, sha256 } from './second.mjs'
import { grantFor, handshake, kems, meeting } from './second-channel.mjs'

function newKem() {
  const pair = crypto.generateKeyPairSync('ml-kem-768')
  const { ciphertext, sharedKey } = crypto.encapsulate(pair.publicKey)
  const publicKey = pair.publicKey.export({ format: 'der', type: 'spki' }).subarray(-1184)
  return { publicKey, ciphertext, secret: sharedKey }
}

const repeat = (from, byte, length) => ({ from, byte, length })
const text = (from, words) => ({ from, text: words })
const TWO_EACH = [0, 1].flatMap(i => [text('client', `from the client ${i}`), text('agent', `from the agent ${i}`)])
const RECORDS = {
  'two records each way': TWO_EACH,
  'empty records': [repeat('agent', 0, 0), repeat('client', 0, 0), repeat('client', 0, 0), repeat('client', 1, 1)],
  'full records': [repeat('client', 0xa5, 65_519), repeat('agent', 0x5a, 65_519), repeat('client', 0xff, 65_518)],
  'a hundred records one way': Array.from({ length: 100 }, (_, i) => repeat('agent', i, 1)),
}

/** A whole channel. Long packets are told by their SHA-256. */
function channel(input, records) {
  const { client, agent, ...expected } = handshake(input)
  const ends = { client, agent }
  const packets = records.map(record => {
    const plaintext = record.text === undefined ? Buffer.alloc(record.length, record.byte) : Buffer.from(record.text)
    const packet = ends[record.from].seal(plaintext)
    return { ...record, ...(packet.length > 1_000 ? { sha256: sha256(packet) } : { packet }) }
  })
  return { ...input, expected, records: packets }
}

const drives = Array.from({ length: 64 }, (_, i) => `${String(i).padStart(8, '0')}-0000-4000-8000-000000000000`)
const GRANTS = {
  'as user, two permissions': {},
  'as user, nothing': { permissions: [] },
  'as manager, every drive': {
    role: 'manager',
    permissions: ['info', 'exec', 'terminal', 'drives', 'ssh', 'files-up', 'files-down', 'tunnel', 'stats', 'power'],
    drives: null,
    serial: 2 ** 53 - 1,
  },
  'for tunnels': { permissions: ['tunnel'], targets: ['localhost:80', '10.0.0.1:65535', '[::1]:22'] },
  'for 64 drives': { permissions: ['drives'], drives },
}

function vectors() {
  const all = kems()
  let turn = 0
  const next = () => all[turn++ % all.length]
  const found = []
  for (const contact of ['first', 'known']) {
    for (let i = 1; i <= 5; i++) found.push(channel(meeting(`${contact} contact ${i}`, contact, next()), TWO_EACH))
  }
  for (const [what, records] of Object.entries(RECORDS)) {
    for (const contact of ['first', 'known']) {
      found.push(channel(meeting(`${contact} contact, ${what}`, contact, next()), records))
    }
  }
  for (const [what, grant] of Object.entries(GRANTS)) {
    const input = meeting(`grant ${what}`, 'known', next(), { caller: 'grantee' })
    found.push(channel({ ...input, grant: grantFor(input, grant) }, TWO_EACH))
  }
  // the same people, the same session, another KEM: nothing repeats
  const twice = meeting('first contact 1', 'first', next())
  found.push(channel({ ...twice, name: 'first contact 1 with another KEM' }, TWO_EACH))
  return found
}

const made = process.argv.includes('--kem')
  ? Array.from({ length: 4 }, newKem)
  : { source: 'test/vectors/make-channel.mjs', vectors: vectors() }
console.log(JSON.stringify(plain(made), null, 1))
