/**
 * Prints the vectors of comparison codes, keys that move on, frames and sealed secrets by the second implementation, the same
 * at each run:
 *
 *   node test/vectors/make-frames.mjs > test/vectors/frames.json
 */
// a published list and no code of ours: the words of BIP-39
import { wordlist } from '@scure/bip39/wordlists/english.js'
import { cat, cbor, dhPublic, fixed, hex, hkdf, plain, rekey, seal, uint } from './second.mjs'
import { frame as frameBytes, innerSeal } from './second-mux.mjs'

const NONE = Buffer.alloc(0)
const vm = '11111111-1111-4111-8111-111111111111'
const drive = '33333333-3333-4333-8333-333333333333'

/** SPEC §5.3 */
function comparison(transcriptHash) {
  const bits = [...hkdf(transcriptHash, NONE, 'mortar comparison v1', 9)]
    .map(byte => byte.toString(2).padStart(8, '0'))
    .join('')
  const numbers = Array.from({ length: 6 }, (_, i) => Number.parseInt(bits.slice(11 * i, 11 * i + 11), 2))
  return { transcriptHash, numbers, words: numbers.map(number => wordlist[number]).join(' ') }
}

/** SPEC §6.2: the counter goes on, the key is another. At two records the key moves on twice, for a secret was in the last. */
function movedOn(label) {
  const key = fixed(label)
  const text = Buffer.from(label)
  const [second, third] = [rekey(key), rekey(rekey(key))]
  return {
    key,
    text,
    first: seal(key, 0, NONE, text),
    last: seal(key, 65_535, NONE, text),
    next: seal(second, 65_536, NONE, text),
    afterSecret: seal(third, 65_537, NONE, text),
  }
}

/** SPEC §7.1 */
function frames() {
  const frame = (type, streamId, body, flags = 0) => ({
    type,
    streamId,
    flags,
    body,
    bytes: frameBytes(type, streamId, body, flags),
  })
  return [
    frame('ready', 0, cbor({ version: 1, commands: ['info', 'exec'] })),
    frame('ping', 0, NONE),
    frame('pong', 0, NONE),
    frame('goAway', 0, NONE),
    frame('goAway', 0, Buffer.from('grant-revoked')),
    frame('open', 1, cbor({ command: 'info', params: {} })),
    frame('open', 3, cbor({ command: 'exec', params: { argv: ['true'] }, keep: fixed('kept').subarray(0, 16) })),
    frame('open', 5, cbor({ attach: fixed('kept').subarray(0, 16), received: 70_000 })),
    frame('accept', 3, cbor({ ready: {}, from: 0, received: 0 })),
    frame('accept', 5, cbor({ ready: {}, from: 70_000, received: 4_294_967_296 })),
    frame('accept', 257, cbor({ ready: {}, offer: dhPublic(fixed('offer')) })),
    frame('data', 1, Buffer.from('output')),
    frame('data', 4_294_967_295, Buffer.from('error'), 1),
    frame('data', 65_537, Buffer.alloc(300, 7)),
    frame('message', 1, cbor(['exit', { code: 0, signal: null }])),
    frame('secret', 7, fixed('a secret')),
    frame('window', 1, cat(uint(16_384, 4), uint(65_536, 4), uint(0, 2))),
    frame('end', 1, uint(258, 8)),
    frame('end', 1, uint(2 ** 47 + 1, 8)),
    frame('reset', 9, Buffer.from('call-unknown')),
  ]
}

/** SPEC §7.3 */
const credits = [
  [16_384, 32_768],
  [1, 65_536],
  [4_194_304, 4_194_304],
].map(([read, window], i) => ({ read, window, messages: i * 7, body: cat(uint(read, 4), uint(window, 4), uint(i * 7, 2)) }))

/** SPEC §7.4 */
function sealed(secret) {
  const opening = cbor({ command: 'drive-lock', params: { drive, serial: '33333333333343338333' } })
  const [ephemeral, offer, transcriptHash] = [fixed('client one-time'), fixed('agent one-time'), fixed('transcript')]
  const input = { vm, transcriptHash, opening, ephemeral, offer, secret }
  return { ...input, sealed: innerSeal(input) }
}

/** SPEC §7.1: records that a receiver refuses */
const refusedRecords = {
  'an empty record': [],
  'half a header': [2, 0, 0, 0],
  'an unknown type': [5, 0, 0, 0, 0, 0, 0, 0],
  'a frame that reaches beyond its record': [18, 0, 0, 2, 0, 0, 0, 1, 7],
  'bytes behind the last frame': [2, 0, 0, 0, 0, 0, 0, 0, 9],
  'a lane beyond 1': [18, 2, 0, 1, 0, 0, 0, 1, 7],
  'flags where there are none': [19, 1, 0, 1, 0, 0, 0, 1, 0xf6],
  'a PING with a body': [2, 0, 0, 1, 0, 0, 0, 0, 7],
  'DATA without bytes': [18, 0, 0, 0, 0, 0, 0, 1],
  'DATA of the session': [18, 0, 0, 1, 0, 0, 0, 0, 7],
  'PING of a stream': [2, 0, 0, 0, 0, 0, 0, 1],
  'WINDOW of 4 bytes': [21, 0, 0, 4, 0, 0, 0, 1, 0, 0, 1, 0],
  'END of 4 bytes': [22, 0, 0, 4, 0, 0, 0, 1, 0, 0, 1, 0],
}

const result = {
  source: 'test/vectors/make-frames.mjs',
  comparisons: Array.from({ length: 6 }, (_, i) => comparison(fixed(`transcript ${i}`))),
  movedOn: ['one'].map(movedOn),
  frames: frames(),
  credits,
  innerSeals: [fixed('drive key'), Buffer.alloc(64, 9), NONE, Buffer.alloc(976, 1)].map(sealed),
  refusedRecords: Object.fromEntries(Object.entries(refusedRecords).map(([what, bytes]) => [what, Buffer.from(bytes)])),
}
console.log(
  JSON.stringify(
    plain(result, bytes => ({ hex: hex(bytes) })),
    null,
    1,
  ),
)
