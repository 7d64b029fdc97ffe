/** Everything that reads bytes of the other side, as a table: what it may fail with, and true inputs to start from. */
import { parseFromRunner } from '../../agent/guest/runner-schemas.ts'
import { encodeData, encodeMessage, FrameReader as RunnerFrameReader } from '../../agent/runner/frames.ts'
import { FRAME_BYTES } from '../../agent/runner/messages.ts'
import { FrameReader } from '../../broker/relay/frames.ts'
import { openingSchema } from '../../protocol/call.ts'
import type { Command } from '../../protocol/commands/command.ts'
import { COMMANDS } from '../../protocol/commands/index.ts'
import { launchRequest } from '../../protocol/control/api.ts'
import { openBoot, signBoot } from '../../protocol/control/boot.ts'
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
import { decodeFrames, FRAMES, type FrameType } from '../../protocol/mux/frame.ts'
import { resetError } from '../../protocol/mux/stream.ts'
import { decodeCredit, encodeCredit, SendWindow } from '../../protocol/mux/window.ts'
import { frame, record, reset } from '../support/frames.ts'
import type { Random } from './random.ts'
import { boot, certificate, grant, id, key, owner, perhapsSigned, seed, ticket } from './statements.ts'

export interface Parser {
  readonly name: string
  /** inputs in each form of the run */
  readonly inputs: { readonly short: number; readonly nightly: number }
  readonly corpus: readonly Uint8Array[]
  readonly codes: readonly ErrorCode[]
  /** other errors that are part of its contract */
  mayThrow?(thrown: Error): boolean
  parse(input: Uint8Array, random: Random): void
}

const serial = '0123456789abcdef0123'
const nonce = new Uint8Array(32).fill(4)
const toText = (input: Uint8Array) => Buffer.from(input).toString('utf8')
const json = (value: unknown) => encodeText(JSON.stringify(value))

const enrolment = {
  version: 1 as const,
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
  { command: 'terminal', params: { cols: 80, rows: 24 } },
  { command: 'exec', params: { argv: ['cat'] }, keep: new Uint8Array(16).fill(5) },
  { attach: new Uint8Array(16).fill(5), received: 70_000 },
  { ready: {}, from: 70_000, received: 12 },
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

const frames = [
  ...Object.entries(FRAMES).map(([type, row]) => {
    const streamId = row.scope === 'session' ? 0 : 1
    return frame(type as FrameType, streamId, new Uint8Array(Math.min(row.most, row.least + 5)))
  }),
  frame('window', 1, encodeCredit({ read: 0, window: 2 * LIMITS.windowBytes, messages: 0 })),
  frame('window', 1, encodeCredit({ read: LIMITS.windowBytes, window: LIMITS.mostWindowBytes, messages: 1 })),
  reset(1, 'going-away'),
].map(item => record(item))

/** What a multiplexer reads of a record: its frames, and of some the body. */
function readRecord(input: Uint8Array): void {
  for (const { type, body } of decodeFrames(input)) {
    if (type === 'window') new SendWindow().release(decodeCredit(body))
    else if (type === 'reset' || type === 'goAway') resetError(body)
  }
}

/** Frames as a client sends them to the relay: first bytes, length, zero mask, payload. */
const socketFrames = [0, 5, 125].flatMap(length =>
  [0x82, 0x02, 0x80, 0x00, 0x88, 0x89, 0x8a, 0x81].map(first =>
    Uint8Array.from([first, 0x80 | length, 0, 0, 0, 0, ...new Uint8Array(length)]),
  ),
)
const longSocketFrames = [126, 4_000, 65_535, 65_536].map(length =>
  Uint8Array.from([0x82, 0xfe, length >> 8, length & 255, 1, 2, 3, 4, ...new Uint8Array(300)]),
)

const signedEnrolment = signEnrolment(enrolment, { boot: signBoot(boot, seed), line: [] }, nonce, seed)
const controlMessages = [
  { type: 'challenge', nonce: encodeBase64url(nonce), broker: encodeBase64url(key) },
  { type: 'enrolled', owner: encodeBase64url(key), ownerDh: encodeBase64url(key), standing: 'waiting' },
  { type: 'succeeded', boot: encodeBase64url(signedEnrolment.boot) },
  { type: 'refused', code: 'denied' },
  { type: 'offer', session: id, token: encodeBase64url(key), kind: 'channel', user: encodeBase64url(key) },
  { type: 'ready' },
  { type: 'declined', session: id, code: 'timeout' },
  {
    type: 'enrol',
    vm: id,
    boot: encodeBase64url(signedEnrolment.boot),
    line: [encodeBase64url(signedEnrolment.boot)],
    body: encodeBase64url(signedEnrolment.body),
    signature: encodeBase64url(signedEnrolment.signature),
  },
  { type: 'protest', signature: encodeBase64url(signedEnrolment.signature) },
].map(json)
const NESTED_JSON = ['[', '{"a":', '[{"type":'].map(text => encodeText(text.repeat(1_300)))

/** What a runner says, which may be its user's by then. */
const runnerMessages = [
  { type: 'hello', version: 1, programs: 3 },
  { type: 'held', program: 7, memo: 'bWVtbw', start: 0, end: 2 ** 40, taken: 5, over: false },
  { type: 'started', program: 7 },
  { type: 'failed', program: 2 ** 32 - 1, code: 'exec-not-found' },
  { type: 'from', program: 7, position: 70_000 },
  { type: 'exit', program: 7, position: 2 ** 48 - 1, code: null, signal: 'SIGTERM' },
  { type: 'taken', program: 7, position: 12 },
  { type: 'pong' },
]
const runnerFrames = [
  ...runnerMessages.map(encodeMessage),
  ...[0, 1, 4_000].map(length =>
    encodeData({ program: 7, position: 2 ** 40, lane: 1, bytes: new Uint8Array(length).fill(9) }),
  ),
  // as long as may be, and longer, with little behind it
  ...[FRAME_BYTES, FRAME_BYTES + 1].map(length =>
    Uint8Array.from([0, length >> 16, (length >> 8) & 255, length & 255, 1]),
  ),
]

/** A reader of what comes in pieces, given the input in two. */
function pushInTwo(reader: { push(chunk: Buffer): unknown }, input: Uint8Array, random: Random): void {
  const cut = random.below(input.length + 1)
  for (const part of [input.subarray(0, cut), input.subarray(cut)]) reader.push(Buffer.from(part))
}

export const PARSERS: readonly Parser[] = [
  {
    name: 'frames',
    inputs: { short: 14_000, nightly: 3_900_000 },
    corpus: frames,
    codes: ['protocol-violation'],
    parse: readRecord,
  },
  {
    name: 'CBOR messages',
    inputs: { short: 14_000, nightly: 1_500_000 },
    corpus: [...messages, ...NESTED],
    codes: ['protocol-violation', 'limit-exceeded'],
    parse: (input, random) =>
      void decodeCbor(
        random.below(4) > 0 ? random.pick(schemas) : openingSchema,
        input,
        LIMITS.messageBytes,
        'protocol-violation',
      ),
  },
  {
    name: 'control JSON',
    inputs: { short: 9_600, nightly: 1_000_000 },
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
    inputs: { short: 9_600, nightly: 1_800_000 },
    corpus: [...socketFrames, ...longSocketFrames],
    codes: ['protocol-violation', 'limit-exceeded'],
    parse: (input, random) => pushInTwo(new FrameReader({ forward() {}, control() {} }), input, random),
  },
  {
    name: 'runner frames',
    inputs: { short: 4_800, nightly: 600_000 },
    corpus: runnerFrames,
    codes: [],
    mayThrow: ({ message }) => /^a frame of (kind )?(\d+|undefined)/.test(message),
    parse: (input, random) => pushInTwo(new RunnerFrameReader(), input, random),
  },
  {
    name: 'runner messages',
    inputs: { short: 4_800, nightly: 400_000 },
    corpus: [...runnerMessages.map(json), ...NESTED_JSON],
    codes: [],
    mayThrow: thrown => thrown instanceof SyntaxError || thrown instanceof z.ZodError,
    parse: input => void parseFromRunner(toText(input)),
  },
  {
    name: 'ticket',
    inputs: { short: 1_500, nightly: 100_000 },
    corpus: [signTicket(ticket, seed), ...NESTED],
    codes: ['ticket-invalid', 'limit-exceeded'],
    parse: (input, random) => void openTicket(perhapsSigned('mortar launch ticket v1', ticket, input, random)),
  },
  {
    name: 'certificate',
    inputs: { short: 1_500, nightly: 100_000 },
    corpus: [signCertificate(certificate, seed), ...NESTED],
    codes: ['certificate-invalid', 'limit-exceeded'],
    parse: (input, random) =>
      void openCertificate(perhapsSigned('mortar agent certificate v1', certificate, input, random), owner),
  },
  {
    name: 'boot statement',
    inputs: { short: 900, nightly: 15_000 },
    corpus: [signedEnrolment.boot, ...NESTED],
    codes: ['enrolment-invalid', 'limit-exceeded'],
    parse: (input, random) => void openBoot(perhapsSigned('mortar boot v1', boot, input, random)),
  },
  {
    name: 'grant',
    inputs: { short: 900, nightly: 50_000 },
    corpus: [signGrant(grant, seed), ...NESTED],
    codes: ['grant-invalid', 'limit-exceeded'],
    parse: (input, random) => void openGrant(perhapsSigned('mortar grant v1', grant, input, random), owner),
  },
  {
    name: 'enrolment',
    inputs: { short: 900, nightly: 50_000 },
    corpus: [signedEnrolment.body],
    codes: ['enrolment-invalid', 'limit-exceeded'],
    parse: input => void openEnrolment({ ...signedEnrolment, body: input }, nonce),
  },
  {
    name: 'launch request',
    inputs: { short: 2_400, nightly: 300_000 },
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
    inputs: { short: 900, nightly: 100_000 },
    corpus: [json(signManifest(manifest, seed)), ...NESTED_JSON],
    codes: ['brick-signature'],
    parse: input => void openManifest(toText(input)),
  },
  {
    name: 'identity text',
    inputs: { short: 2_400, nightly: 400_000 },
    corpus: [encodeText(formatIdentity({ sign: key, dh: key }))],
    codes: ['bad-request'],
    parse: input => void parseIdentity(toText(input)),
  },
  {
    name: 'base64url and hex',
    inputs: { short: 2_300, nightly: 700_000 },
    corpus: ['', 'AA', 'q6urq6s', 'deadbeef', 'a-_Z'].map(encodeText),
    codes: [],
    mayThrow: thrown => thrown instanceof RangeError && !/call stack/.test(thrown.message),
    parse: (input, random) => void (random.below(2) === 0 ? decodeBase64url : decodeHex)(toText(input)),
  },
]
