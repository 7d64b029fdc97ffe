/** Each number of protocol/core/limits.ts on receipt: as much is taken, one more is not. A row without a test fails here. SPEC §10 */
import { readFileSync } from 'node:fs'
import { expect, test } from 'vitest'
import { exec } from '../../protocol/commands/exec.ts'
import { signBoot } from '../../protocol/control/boot.ts'
import {
  openEnrolment,
  readControl,
  signEnrolment,
  toAgentSchema,
  toBrokerSchema,
} from '../../protocol/control/enrolment.ts'
import { type Grant, openGrant, signGrant } from '../../protocol/control/grant.ts'
import { checkTicketTime, type LaunchTicket } from '../../protocol/control/ticket.ts'
import { concat } from '../../protocol/core/bytes.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { z } from '../../protocol/core/schema.ts'
import { openStatement, sealStatement, sha256, sign, signingPublicKey } from '../../protocol/core/signing.ts'
import { encodeCredit } from '../../protocol/mux/window.ts'
import { frame, framesUntil, reset } from '../support/frames.ts'
import { muxEnd, now } from '../support/mux-end.ts'
import { facts } from '../support/session-pair.ts'

const seed = new Uint8Array(32).fill(1)
const owner = signingPublicKey(seed)
const key = new Uint8Array(32).fill(2)
const code = (code: string) => expect.objectContaining({ code })
const open = (id: number) => frame('open', id, Uint8Array.of(0xa0))
const data = (id: number, length: number) => frame('data', id, new Uint8Array(length))
const odd = (i: number) => 2 * i + 1

async function streams() {
  const client = muxEnd('client')
  for (let i = 0; i < LIMITS.streams; i++) client.mux.openStream(Uint8Array.of(0xa0))
  expect(() => client.mux.openStream(Uint8Array.of(0xa0))).toThrow(code('limit-exceeded'))
  client.say(reset(1, 'denied'))
  expect(await now(client.ended)).toBe('open')
  client.mux.openStream(Uint8Array.of(0xa0))
  await agentStreams()
}

async function agentStreams() {
  const agent = muxEnd('agent')
  for (let i = 0; i < LIMITS.streams; i++) agent.say(open(odd(i)))
  expect(await now(agent.ended)).toBe('open')
  expect(agent.streams).toHaveLength(LIMITS.streams)
  agent.say(open(odd(LIMITS.streams)))
  const refused = (await framesUntil(agent.peer, 'reset')).at(-1)
  expect(refused).toEqual(reset(odd(LIMITS.streams), 'limit-exceeded'))
  expect(agent.streams).toHaveLength(LIMITS.streams)
  expect(agent.streams.some(stream => stream.signal.aborted)).toBe(false)
  // a place that is free again is given again
  agent.say(reset(1, 'denied'))
  agent.say(open(odd(LIMITS.streams + 1)))
  expect(await now(agent.ended)).toBe('open')
  expect(agent.streams).toHaveLength(LIMITS.streams + 1)
}

async function unreadMessages() {
  const { say, ended } = muxEnd('agent')
  say(open(1), open(3))
  for (let i = 0; i < LIMITS.unreadMessages; i++) say(frame('message', 1, Uint8Array.of(0xf6)))
  say(frame('message', 3, Uint8Array.of(0xf6)))
  expect(await now(ended)).toBe('open')
  say(frame('message', 1, Uint8Array.of(0xf6)))
  expect(await ended).toBe('limit-exceeded')
}

async function windowMessages() {
  const { mux, peer, say } = muxEnd('client')
  const stream = mux.openStream(Uint8Array.of(0xa0))
  for (let i = 0; i <= LIMITS.windowMessages; i++) stream.post(Uint8Array.of(0xf6))
  stream.end()
  // END, which stands behind the last, does not overtake it
  const sent = await framesUntil(peer, 'message')
  expect(sent.filter(({ type }) => type === 'message')).toHaveLength(LIMITS.windowMessages)
  expect(sent.at(-1)?.type).toBe('message')
  say(frame('window', 1, encodeCredit({ read: 0, window: LIMITS.windowBytes, messages: 1 })))
  expect((await framesUntil(peer, 'end')).map(({ type }) => type)).toEqual(['message', 'end'])
}

async function windowBytes() {
  const { say, ended, streams } = muxEnd('agent')
  say(open(1))
  for (let i = 0; i < LIMITS.windowBytes / 1_024; i++) say(data(1, 1_024))
  expect(await now(ended)).toBe('open')
  expect(streams[0]?.signal.aborted).toBe(false)
  say(data(1, 1))
  expect(await now(ended)).toBe('open')
  expect(streams[0]?.signal.reason).toMatchObject({ code: 'limit-exceeded' })
}

async function mostWindowBytes() {
  const credit = (window: number) => frame('window', 1, encodeCredit({ read: 0, window, messages: 0 }))
  const { say, ended } = muxEnd('agent')
  say(open(1), credit(LIMITS.mostWindowBytes))
  expect(await now(ended)).toBe('open')
  say(credit(LIMITS.mostWindowBytes + 1))
  expect(await ended).toBe('protocol-violation')
}

async function overruns() {
  const { say, ended } = muxEnd('agent')
  for (let i = 0; i < LIMITS.overruns; i++) {
    expect(await now(ended)).toBe('open')
    say(open(odd(i)))
    say(data(odd(i), LIMITS.windowBytes + 1))
  }
  expect(await ended).toBe('protocol-violation')
}

function argvItems() {
  const takes = (items: number) => exec.params.safeParse({ argv: new Array(items).fill('x') }).success
  expect([takes(1), takes(LIMITS.argvItems), takes(LIMITS.argvItems + 1)]).toEqual([true, true, false])
}

function argvBytes() {
  // bytes, not characters, of all items together
  const takes = (bytes: number) => exec.params.safeParse({ argv: ['é'.repeat(100), 'x'.repeat(bytes - 200)] }).success
  expect([takes(LIMITS.argvBytes), takes(LIMITS.argvBytes + 1)]).toEqual([true, false])
}

function ticketSeconds() {
  const nowSeconds = 1_800_000_000
  // a minute for clocks that differ
  const check = (seconds: number) =>
    checkTicketTime({ expires: nowSeconds + seconds } as LaunchTicket, nowSeconds * 1_000 + 999)
  check(1)
  check(LIMITS.ticketSeconds + 60)
  expect(() => check(LIMITS.ticketSeconds + 61)).toThrow(code('ticket-invalid'))
  expect(() => check(0)).toThrow(code('ticket-expired'))
}

function signedBytes() {
  const statement = (bytes: number) => {
    const text = 'x'.repeat(bytes - 3)
    expect(encodeCbor(text)).toHaveLength(bytes)
    return openStatement('label', z.string(), sealStatement('label', text, seed), 'ticket-invalid')
  }
  expect(statement(LIMITS.signedBytes).key).toEqual(owner)
  expect(() => statement(LIMITS.signedBytes + 1)).toThrow(code('ticket-invalid'))
  const envelope = new Uint8Array(LIMITS.signedBytes + 256)
  const openEnvelope = (bytes: Uint8Array) => openStatement('label', z.string(), bytes, 'ticket-invalid')
  expect(() => openEnvelope(envelope)).toThrow(code('ticket-invalid'))
  expect(() => openEnvelope(new Uint8Array(envelope.length + 1))).toThrow(/4353 bytes, at most 4352/)
}

const grant: Grant = {
  version: 1,
  vm: facts.vm,
  grantee: key,
  granteeDh: key,
  role: 'user',
  permissions: ['exec'],
  drives: [],
  targets: [],
  expires: 1_800_000_000,
  serial: 1,
}
const uuid = (i: number) => `44444444-4444-4444-8444-${String(i).padStart(12, '0')}`
const hosts = (lengths: readonly number[]) =>
  lengths.map((length, i) => `${'abcdefghijklm'.charAt(i).repeat(length)}:1`)

function grantBytes() {
  // twelve long names fill most of it, the last one the rest
  const lengths = [...new Array<number>(12).fill(250), 20]
  const signed = (more: number) =>
    sealStatement('mortar grant v1', { ...grant, targets: hosts([...lengths.slice(0, -1), 20 + more]) }, seed)
  let [fill, best] = [0, signed(0)]
  while (best.length < LIMITS.grantBytes) best = signed(++fill)
  expect(best).toHaveLength(LIMITS.grantBytes)
  expect(openGrant(best, owner).targets).toHaveLength(lengths.length)
  expect(() => openGrant(signed(fill + 1), owner)).toThrow(code('grant-invalid'))
  const targets = hosts([...lengths.slice(0, -1), 20 + fill])
  expect(signGrant({ ...grant, targets }, seed)).toEqual(best)
  expect(() => signGrant({ ...grant, targets: [...targets.slice(0, -1), `${targets.at(-1)}0`] }, seed)).toThrow(
    code('grant-invalid'),
  )
}

function grantItems() {
  const items = (count: number, name: (i: number) => string) => Array.from({ length: count }, (_, i) => name(i))
  const sealed = (more: Partial<Grant>) =>
    openGrant(sealStatement('mortar grant v1', { ...grant, ...more }, seed), owner)
  const host = (i: number) => `h${i}:1`
  expect(sealed({ drives: items(LIMITS.grantItems, uuid) }).drives).toHaveLength(LIMITS.grantItems)
  expect(() => sealed({ drives: items(LIMITS.grantItems + 1, uuid) })).toThrow(code('grant-invalid'))
  expect(sealed({ targets: items(LIMITS.grantItems, host) }).targets).toHaveLength(LIMITS.grantItems)
  expect(() => sealed({ targets: items(LIMITS.grantItems + 1, host) })).toThrow(code('grant-invalid'))
}

function controlBytes() {
  const message = (length: number) => readControl(toBrokerSchema, '{"type":"ready"}'.padEnd(length))
  expect(message(LIMITS.controlBytes)).toEqual({ type: 'ready' })
  expect(() => message(LIMITS.controlBytes + 1)).toThrow(code('protocol-violation'))
}

function addresses() {
  const statement = { version: 1 as const, vm: facts.vm, launch: facts.launch, generation: 1, boot: facts.vm }
  const boot = signBoot({ ...statement, agentDh: key, agentSign: owner, nextBoot: key }, seed)
  const body = (count: number) => ({
    ...{ version: 1 as const, brick: key, agentVersion: '1', protocols: [1] },
    addresses: new Array<string>(count).fill('10.0.2.15'),
  })
  const opened = (count: number) => {
    const encoded = encodeCbor(body(count))
    const signature = sign('mortar enrolment v1', concat(key, sha256(boot), encoded), seed)
    return openEnrolment({ boot, line: [], body: encoded, signature }, key).enrolment
  }
  expect(opened(LIMITS.addresses).addresses).toHaveLength(LIMITS.addresses)
  expect(() => opened(LIMITS.addresses + 1)).toThrow(code('enrolment-invalid'))
  expect(() => signEnrolment(body(LIMITS.addresses + 1), { boot, line: [] }, key, seed)).toThrow()
}

function bootStatementCharacters() {
  const message = (length: number) =>
    readControl(toAgentSchema, JSON.stringify({ type: 'succeeded', boot: 'A'.repeat(length) }))
  expect(message(LIMITS.bootStatementCharacters)).toMatchObject({ type: 'succeeded' })
  expect(() => message(LIMITS.bootStatementCharacters + 1)).toThrow(code('protocol-violation'))
}

/** Limits whose tests are in one file. */
const inFile = <K extends string>(file: string, names: readonly K[]) =>
  Object.fromEntries(names.map(name => [name, file])) as Record<K, string>

/** A test, or the file that has it. */
const TESTS: Readonly<Record<keyof typeof LIMITS, string | (() => void | Promise<void>)>> = {
  packetBytes: 'broker/frames',
  recordPlaintextBytes: 'protocol/secure-channel',
  sessionRecords: 'protocol/session-records',
  recordsPerKey: 'protocol/rekey',
  offerMs: 'protocol/secret-offer',
  streams,
  windowMessages,
  unreadMessages,
  windowBytes,
  mostWindowBytes,
  overruns,
  spoolBytes: 'protocol/kept',
  argvItems,
  argvBytes,
  sshKeysEach: 'agent/guest',
  driveHolders: 'protocol/commands',
  driveCalls: 'agent/drive-calls',
  ticketSeconds,
  nesting: 'protocol/secrets',
  signedBytes,
  grantBytes,
  grantItems,
  grantees: 'agent/grants',
  clockStepMs: 'protocol/clock',
  controlBytes,
  unauthenticatedPerAddress: 'broker/strangers',
  joinMs: 'broker/relay',
  authenticationMs: 'broker/enrolment',
  addresses,
  bootStatementCharacters,
  ...inFile('protocol/liveness', ['handshakeMs', 'sessionMs', 'acceptMs', 'pingMs', 'silenceMs']),
  ...inFile('protocol/frames', ['frameHeaderBytes', 'messageBytes', 'secretBytes']),
  ...inFile('protocol/kept-rights', ['keptMs', 'keptFailedMs', 'spentCalls', 'keptCalls', 'keptCallsEach']),
  ...inFile('agent/places', ['sessions', 'sessionsEach', 'sessionsOwner', 'unprovenSessions']),
  ...inFile('broker/sessions', ['sessionsPerBroker', 'sessionsPerUser', 'sessionsPerVm', 'sessionsPerVmEach']),
  ...inFile('broker/connections', ['connectionsPerAddress', 'connectionsUnknown', 'connectionsPerUser']),
  ...inFile('broker/connections', [
    'connectionsOfUsers',
    'sshSilentPerAddress',
    'sshSpeakingPerAddress',
    'sshClaimsPerKey',
  ]),
  ...inFile('broker/connections', ['sshSilent', 'sshUnknown', 'sshPlacesPerUser']),
  ...inFile('broker/connections', ['sshPerUser', 'sshConnections', 'sshIdleMs']),
  ...inFile('broker/requests', ['strangerBodyBytes', 'bodyBytes', 'bodyMs', 'requestsAtOnce', 'requestsPerSecond']),
  ...inFile('broker/requests', ['waitsPerUser', 'waits', 'sshKeysPerUser']),
  waitingBoots: 'broker/boots-contest',
  ...inFile('broker/boots', ['bootChain', 'bootLine', 'protestMs']),
  ...inFile('protocol/handshake-rules', ['handshakeBytes', 'evidenceBytes']),
  ...inFile('protocol/mux', ['sessionMessageBytes', 'sessionWindowBytes']),
  ...inFile('agent/secret-attempts', ['secretsPerMinute', 'secretsPerSession']),
}

test('each limit has a test, and a test its limit', () => {
  expect(Object.keys(TESTS).sort()).toEqual(Object.keys(LIMITS).sort())
})

test.each(Object.entries(TESTS))('%s', async (name, row) => {
  if (typeof row !== 'string') return row()
  const text = readFileSync(new URL(`../${row}.test.ts`, import.meta.url), 'utf8')
  expect(text, `test/${row}.test.ts says nothing of ${name}`).toMatch(new RegExp(`\\b${name}\\b`))
})
