/**
 * Prints whole sessions by the second implementation, packet by packet, the same at each run:
 *
 *   node test/vectors/make-sessions.mjs > test/vectors/sessions.json
 */
import { cat, cbor, dhPublic, fixed, plain, uint } from './second.mjs'
import { grantFor, handshake, kems, meeting } from './second-channel.mjs'
import { frame, innerSeal } from './second-mux.mjs'

const NONE = Buffer.alloc(0)
const COMMANDS = [
  'info',
  'exec',
  'exec-list',
  'terminal',
  'drive-format',
  'drive-unlock',
  'drive-lock',
  'drive-list',
  'ssh',
  'grant-revoke',
  'grant-list',
]
const keep = fixed('kept').subarray(0, 16)
const keys = kems()

/** A session whose records `say` fills: say(end, frames…), and say.secret for a record with a SECRET. */
function session(input, run) {
  const { client, agent, messages, transcriptHash } = handshake(input)
  const ends = { client, agent }
  const packets = messages.map((packet, i) => ({
    from: i === 1 ? 'agent' : 'client',
    what: `message ${i + 1}`,
    packet,
  }))
  const say = (from, what, ...frames) => packets.push({ from, what, packet: ends[from].seal(cat(...frames)) })
  say.secret = (what, only) => packets.push({ from: 'client', what, packet: client.seal(only, { secret: true }) })
  run(say, transcriptHash)
  return { ...input, transcriptHash, packets }
}

const ready = commands => frame('ready', 0, cbor({ version: 1, commands }))
const end = (streamId, dataBytes) => frame('end', streamId, uint(dataBytes, 8))

/** A drive is unlocked, a kept program begun; then the client goes. SPEC §6.2, §7.4, §8.2 */
function begun() {
  const people = meeting('a kept call', 'first', keys[0])
  const { facts } = people
  const [ephemeral, offer, secret] = [fixed('client one-time'), fixed('agent one-time'), cat(fixed('k1'), fixed('k2'))]
  const params = {
    drive: '33333333-3333-4333-8333-333333333333',
    serial: '33333333333343338333',
    headerDigest: fixed('header'),
    mountName: 'data',
    readOnly: false,
  }
  const done = { mountPoint: '/drives/data', sizeBytes: 2 ** 33, freeBytes: 2 ** 32 - 1, readOnly: false }
  const input = { ...people, oneTime: { client: ephemeral, agent: offer }, params, secret, done, keep }
  return session(input, (say, transcriptHash) => {
    say('agent', 'READY', ready(COMMANDS))
    const opening = cbor({ command: 'drive-unlock', params })
    say('client', 'OPEN drive-unlock', frame('open', 1, opening))
    say('agent', 'ACCEPT with an offer', frame('accept', 1, cbor({ ready: {}, offer: dhPublic(offer) })))
    const sealed = innerSeal({ vm: facts.vm, transcriptHash, opening, ephemeral, offer, secret })
    say.secret('SECRET', frame('secret', 1, sealed))
    say('agent', 'done, END', frame('message', 1, cbor(['done', done])), end(1, 0))
    say('client', 'END under the next key', end(1, 0))
    say('client', 'OPEN exec, kept', frame('open', 3, cbor({ command: 'exec', params: { argv: ['tr'] }, keep })))
    say('agent', 'ACCEPT at position 0', frame('accept', 3, cbor({ ready: {}, from: 0, received: 0 })))
    say('client', 'input', frame('data', 3, Buffer.from('input')))
    say('agent', 'output', frame('data', 3, Buffer.from('INPUT')))
    say('client', 'GOAWAY', frame('goAway', 0, NONE))
  })
}

/** The kept program is taken up again in another session of the same two. SPEC §8.2 */
function takenUp() {
  const people = meeting('a kept call', 'known', keys[1])
  const again = {
    ...people,
    name: 'a kept call, taken up again',
    facts: { ...people.facts, session: '55555555-5555-4555-8555-555555555555' },
    initiator: { ...people.initiator, e: fixed('client ephemeral again') },
    responder: { ...people.responder, e: fixed('agent ephemeral again') },
  }
  return session(again, say => {
    say('agent', 'READY', ready(COMMANDS))
    say('client', 'OPEN attach', frame('open', 1, cbor({ attach: keep, received: 5 })))
    say('agent', 'ACCEPT at position 5', frame('accept', 1, cbor({ ready: {}, from: 5, received: 5 })))
    say('client', 'more input', frame('data', 1, Buffer.from('more')))
    say('agent', 'output on lane 1', frame('data', 1, Buffer.from('MORE'), 1))
    say('client', 'eof', frame('message', 1, cbor(['eof', {}])))
    say('agent', 'exit, END', frame('message', 1, cbor(['exit', { code: 0, signal: null }])), end(1, 4))
    say('client', 'END', end(1, 4))
    say('client', 'GOAWAY', frame('goAway', 0, NONE))
  })
}

/** Somebody with a grant for less than all. SPEC §2.7, §8.1 */
function granted() {
  const people = meeting('a grantee', 'known', keys[2], { caller: 'grantee' })
  const input = { ...people, grant: grantFor(people, { permissions: ['exec', 'drives'] }) }
  return session(input, say => {
    say('agent', 'READY', ready(['exec', 'exec-list', 'drive-format', 'drive-unlock', 'drive-lock', 'drive-list']))
    say('client', 'OPEN info', frame('open', 1, cbor({ command: 'info', params: {} })))
    say('agent', 'RESET', frame('reset', 1, Buffer.from('denied')))
    say('client', 'OPEN drive-list', frame('open', 3, cbor({ command: 'drive-list', params: {} })))
    say('agent', 'ACCEPT, END', frame('accept', 3, cbor({ drives: [] })), end(3, 0))
    say('client', 'END', end(3, 0))
    say('client', 'GOAWAY', frame('goAway', 0, NONE))
  })
}

const made = {
  source: 'test/vectors/make-sessions.mjs',
  begun: begun(),
  takenUp: takenUp(),
  granted: granted(),
}
console.log(JSON.stringify(plain(made), null, 1))
