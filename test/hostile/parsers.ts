/** Everything that reads bytes of the other side, as a table: what it may fail with, and true inputs to start from. */
import { randomBytes } from 'node:crypto'
import { FrameReader } from '../../broker/relay/frames.ts'
import { openingSchema } from '../../protocol/call.ts'
import type { Command } from '../../protocol/commands/command.ts'
import { COMMANDS } from '../../protocol/commands/index.ts'
import { launchRequest } from '../../protocol/control/api.ts'
import { openCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import {
  openEnrolment,
  readControl,
  signEnrolment,
  toAgentSchema,
  toBrokerSchema,
} from '../../protocol/control/enrolment.ts'
import { openGrant, signGrant } from '../../protocol/control/grant.ts'
import { formatIdentity, parseIdentity } from '../../protocol/control/login.ts'
import { openManifest, signManifest } from '../../protocol/control/manifest.ts'
import { openTicket, signTicket } from '../../protocol/control/ticket.ts'
import { decodeBase64url, decodeHex, encodeBase64url, encodeText } from '../../protocol/core/bytes.ts'
import { decodeCbor, encodeCbor } from '../../protocol/core/codec.ts'
import type { ErrorCode } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { z } from '../../protocol/core/schema.ts'
import { sealStatement, signingPublicKey } from '../../protocol/core/signing.ts'
import { decodeFrames, encodeFrame, FRAMES, type FrameType, frameBytes } from '../../protocol/mux/frame.ts'
import type { Random } from './random.ts'

export interface Parser {
  readonly name: string
  /** inputs of a thousand */
  readonly share: number
  readonly corpus: readonly Uint8Array[]
  readonly codes: readonly ErrorCode[]
  /** a RangeError is part of its contract */
  readonly rangeError?: boolean
  parse(input: Uint8Array, random: Random): void
}

const id = '11111111-1111-4111-8111-111111111111'
const serial = '0123456789abcdef0123'
const key = new Uint8Array(32).fill(3)
const nonce = new Uint8Array(32).fill(4)
const seed = new Uint8Array(randomBytes(32))
const owner = signingPublicKey(seed)
const toText = (input: Uint8Array) => Buffer.from(input).toString('utf8')
const json = (value: unknown) => encodeText(JSON.stringify(value))

const ticket = {
  version: 1 as const,
  vm: id,
  launch: id,
  owner,
  ownerDh: key,
  brick: key,
  broker: key,
  commitment: key,
  nonce: new Uint8Array(16),
  expires: 1_800_000_000,
}
const certificate = { version: 1 as const, vm: id, launch: id, generation: 1, agentDh: key, agentSign: key }
const grant = {
  version: 1 as const,
  vm: id,
  grantee: key,
  granteeDh: key,
  role: 'user' as const,
  permissions: ['exec' as const],
  drives: [id],
  targets: [],
  expires: 1_800_000_000,
  serial: 1,
}
const enrolment = {
  version: 1 as const,
  vm: id,
  launch: id,
  generation: 1,
  boot: id,
  agentDh: key,
  agentSign: owner,
  addresses: ['10.0.2.15', 'fe80::1'],
  brick: key,
  agentVersion: '0.1.0',
  protocols: [1],
}
const manifest = {
  format: 1 as const,
  name: 'stone',
  version: '1',
  sizeBytes: 1_000,
  virtualSizeBytes: 2_000,
  sha256: 'ab'.repeat(32),
  agentVersion: '0.1.0',
  createdAt: '2026-01-01T00:00:00Z',
}

/** What is said in the streams, and nesting as deep as the limit lets it. */
const messages = [
  ...Object.keys(COMMANDS).map(command => ({ command, params: {} })),
  { command: 'exec', params: { argv: ['cat', '-n'], env: { A: 'b' }, cwd: '/', user: 'root' } },
  { command: 'terminal', params: { columns: 80, rows: 24 } },
  { command: 'drive-format', params: { drive: id, serial, label: 'x', erase: false } },
  { code: 0, signal: null },
  ['exit', { code: null, signal: 'SIGTERM' }],
  { drives: [{ serial, state: 'open', sizeBytes: 1, mountPoint: '/drives/x' }] },
  { headerDigest: key },
  { version: 1, commands: Object.keys(COMMANDS) },
  { version: 1, contact: 'first' },
].map(encodeCbor)
const NESTED = [0x81, 0xa1, 0x9f, 0xd8].map(byte => new Uint8Array(4_000).fill(byte))

const allCommands: readonly Command[] = Object.values(COMMANDS)
const schemas: readonly z.ZodType[] = [
  openingSchema,
  z.unknown(),
  ...allCommands.flatMap(row => [row.params, row.ready, ...Object.values(row.toAgent), ...Object.values(row.toClient)]),
]

const frames = Object.entries(FRAMES).map(([type, row]) => {
  const streamId = row.scope === 'session' ? 0 : 1
  const frame = { type: type as FrameType, streamId, flags: 0, body: new Uint8Array(Math.min(row.most, row.least + 5)) }
  const record = new Uint8Array(frameBytes(frame))
  encodeFrame(record, 0, frame)
  return record
})

/** Frames as a client sends them to the relay: first bytes, length, zero mask, payload. */
const socketFrames = [0, 5, 125].flatMap(length =>
  [0x82, 0x02, 0x80, 0x00, 0x88, 0x89, 0x8a, 0x81].map(first =>
    Uint8Array.from([first, 0x80 | length, 0, 0, 0, 0, ...new Uint8Array(length)]),
  ),
)
const longSocketFrames = [126, 4_000, 65_535, 65_536].map(length =>
  Uint8Array.from([0x82, 0xfe, length >> 8, length & 255, 1, 2, 3, 4, ...new Uint8Array(300)]),
)

const signedEnrolment = signEnrolment(enrolment, nonce, seed, seed)
const controlMessages = [
  { type: 'challenge', nonce: encodeBase64url(nonce), broker: encodeBase64url(key) },
  { type: 'enrolled', owner: encodeBase64url(key), ownerDh: encodeBase64url(key), generation: 1 },
  { type: 'refused', code: 'denied' },
  { type: 'offer', session: id, token: encodeBase64url(key), kind: 'channel' },
  { type: 'ready' },
  { type: 'declined', session: id, code: 'timeout' },
  {
    type: 'enrol',
    body: encodeBase64url(signedEnrolment.body),
    launchSignature: encodeBase64url(signedEnrolment.launchSignature),
    agentSignature: encodeBase64url(signedEnrolment.agentSignature),
  },
].map(json)
const NESTED_JSON = ['[', '{"a":', '[{"type":'].map(text => encodeText(text.repeat(1_300)))

const JUNK = [null, '', -1, 0, [], {}, true, new Uint8Array(33), 'x'.repeat(3_000), Number.MAX_SAFE_INTEGER]

/** One input in fifty is a statement with a member bent, rightly signed as only an owner could: then its body is read. */
function perhapsSigned(label: string, statement: object, input: Uint8Array, random: Random): Uint8Array {
  if (random.below(50) > 0) return input
  const member = random.pick([...Object.keys(statement), 'stranger'])
  return sealStatement(label, { ...statement, [member]: random.pick(JUNK) }, seed)
}

export const PARSERS: readonly Parser[] = [
  {
    name: 'frames',
    share: 245,
    corpus: frames,
    codes: ['protocol-violation'],
    parse: input => void decodeFrames(input),
  },
  {
    name: 'CBOR messages',
    share: 240,
    corpus: [...messages, ...NESTED],
    codes: ['protocol-violation', 'limit-exceeded'],
    parse: (input, random) => void decodeCbor(random.pick(schemas), input, LIMITS.messageBytes, 'protocol-violation'),
  },
  {
    name: 'control JSON',
    share: 160,
    corpus: [...controlMessages, ...NESTED_JSON],
    codes: ['protocol-violation'],
    parse(input, random) {
      const text = toText(input)
      if (random.below(2) === 0) readControl(toAgentSchema, text)
      else readControl(toBrokerSchema, text)
    },
  },
  {
    name: 'WebSocket frames',
    share: 160,
    corpus: [...socketFrames, ...longSocketFrames],
    codes: ['protocol-violation', 'limit-exceeded'],
    parse(input, random) {
      const reader = new FrameReader({ forward() {}, control() {} })
      const cut = random.below(input.length + 1)
      for (const part of [input.subarray(0, cut), input.subarray(cut)]) reader.push(Buffer.from(part))
    },
  },
  {
    name: 'ticket',
    share: 15,
    corpus: [signTicket(ticket, seed), ...NESTED],
    codes: ['ticket-invalid', 'limit-exceeded'],
    parse: (input, random) => void openTicket(perhapsSigned('mortar launch ticket v1', ticket, input, random)),
  },
  {
    name: 'certificate',
    share: 15,
    corpus: [signCertificate(certificate, seed), ...NESTED],
    codes: ['certificate-invalid', 'limit-exceeded'],
    parse: (input, random) =>
      void openCertificate(perhapsSigned('mortar agent certificate v1', certificate, input, random), owner),
  },
  {
    name: 'grant',
    share: 15,
    corpus: [signGrant(grant, seed), ...NESTED],
    codes: ['grant-invalid', 'limit-exceeded'],
    parse: (input, random) => void openGrant(perhapsSigned('mortar grant v1', grant, input, random), owner),
  },
  {
    name: 'enrolment',
    share: 15,
    corpus: [signedEnrolment.body],
    codes: ['enrolment-invalid', 'limit-exceeded'],
    parse: input => void openEnrolment({ ...signedEnrolment, body: input }, nonce, () => owner),
  },
  {
    name: 'launch request',
    share: 40,
    corpus: [
      encodeCbor({
        options: { name: 'a', brick: 'b', memoryMiB: 512, vcpus: 1 },
        ticket: signTicket(ticket, seed),
        sealedSecret: new Uint8Array(80).fill(7),
      }),
    ],
    codes: ['bad-request', 'limit-exceeded'],
    parse: input => void decodeCbor(launchRequest, input, 2 * LIMITS.signedBytes, 'bad-request'),
  },
  {
    name: 'manifest',
    share: 15,
    corpus: [json(signManifest(manifest, seed)), ...NESTED_JSON],
    codes: ['brick-signature'],
    parse: input => void openManifest(toText(input)),
  },
  {
    name: 'identity text',
    share: 40,
    corpus: [encodeText(formatIdentity({ sign: key, dh: key }))],
    codes: ['bad-request'],
    parse: input => void parseIdentity(toText(input)),
  },
  {
    name: 'base64url and hex',
    share: 40,
    corpus: ['', 'AA', 'q6urq6s', 'deadbeef', 'a-_Z'].map(encodeText),
    codes: [],
    rangeError: true,
    parse: (input, random) => void (random.below(2) === 0 ? decodeBase64url : decodeHex)(toText(input)),
  },
]
