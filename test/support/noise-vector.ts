/** Runs a test vector in the format of cacophony through the real engine: both ends, every message, the transcript hash. */
import { Handshake } from '../../protocol/channel/handshake.ts'
import { findPattern, parseProtocolName } from '../../protocol/channel/patterns.ts'
import type { Algorithms, CipherName, HashName, Suite } from '../../protocol/channel/suite.ts'
import { decodeHex, encodeHex, equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { z } from '../../protocol/core/schema.ts'

export interface Backend {
  readonly suite: Suite
  algorithmsOf(cipher: CipherName, hash: HashName): Algorithms
}

const hex = z
  .string()
  .regex(/^([0-9a-f]{2})*$/i, 'not bytes in hex')
  .transform(decodeHex)
const KEY_BYTES = 32
const key = hex.refine(bytes => bytes.length === KEY_BYTES, {
  error: ({ input }) => `needs ${KEY_BYTES} bytes, has ${(input as Uint8Array).length}`,
})
// what is null is not there
const sideShape = (side: 'init' | 'resp') => ({
  [`${side}_prologue`]: hex.nullish(),
  [`${side}_psks`]: z.array(key).nullish(),
  [`${side}_psk`]: key.nullish(),
  [`${side}_static`]: key.nullish(),
  [`${side}_ephemeral`]: key.nullish(),
  [`${side}_remote_static`]: key.nullish(),
})
const text = z.string().nullish()
const vectorSchema = z.looseObject({
  handshake_hash: hex.nullish(),
  /** the last message must be refused, and only it */
  fail: z.boolean().nullish(),
  fallback: z.boolean().nullish(),
  messages: z.array(z.looseObject({ payload: hex, ciphertext: hex })).min(1),
  ...sideShape('init'),
  ...sideShape('resp'),
})
/** noise-c gives the parts of a protocol's name, and any text as `name` */
const nameSchema = z.looseObject({
  protocol_name: text,
  name: text,
  pattern: text,
  dh: text,
  hybrid: text,
  cipher: text,
  hash: text,
})
const listSchema = z.array(z.unknown())
const fileSchema = z.looseObject({ vectors: listSchema })

/** The vectors of a file, as they are in it: its `vectors`, or all of it. Throws with one line that says what else it is. */
export function vectorsOf(json: string): unknown[] {
  const file = parseJson(json.replace(/^\uFEFF/, ''))
  return Array.isArray(file) ? file : read(fileSchema, file, 'not a file of vectors').vectors
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Error(`not JSON: ${(cause as Error).message.replaceAll(/\s+/g, ' ')}`, { cause })
  }
}

function read<S extends z.ZodType>(schema: S, value: unknown, what = ''): z.output<S> {
  const checked = schema.safeParse(value)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]
  throw new Error([what, issue?.path.join('.'), issue?.message].filter(Boolean).join(': '))
}

/** The protocol that a vector is for, or what it calls itself otherwise. */
export function nameOf(vector: unknown): string {
  const named = nameSchema.safeParse(vector)
  if (!named.success) return 'a vector without a name'
  const { protocol_name, name, pattern, dh, hybrid, cipher, hash } = named.data
  const parts = [pattern, hybrid ? `${dh}+${hybrid}` : dh, cipher, hash]
  const composed = parts.every(Boolean) ? ['Noise', ...parts].join('_') : undefined
  return protocol_name ?? (name?.startsWith('Noise') ? name : (composed ?? name)) ?? 'a vector without a name'
}

/** Why a step failed, in words of Noise: the product's own say nothing more than that the channel did not open. */
function reasonOf(thrown: unknown): string {
  let cause = thrown
  while (cause instanceof MortarError && cause.detail === '' && cause.cause !== undefined) cause = cause.cause
  if (!(cause instanceof MortarError)) return (cause as Error).message
  if (cause.code === 'record-invalid') return 'does not authenticate'
  return cause.detail || 'is too short'
}

/** What `run` gives; a failure says of what. */
async function step<T>(what: string, run: () => T | Promise<T>): Promise<T> {
  try {
    return await run()
  } catch (cause) {
    throw new Error(`${what}: ${reasonOf(cause)}`, { cause })
  }
}

type Vector = z.output<typeof vectorSchema> & Record<string, unknown>

/** Runs a vector; throws with the first thing that is malformed or differs, or because it names what we do not run. */
export async function runVector(input: unknown, backend: Backend): Promise<void> {
  read(nameSchema, input)
  const protocolName = nameOf(input)
  const { pattern } = parseProtocolName(protocolName)
  const vector = read(vectorSchema, input) as Vector
  if (vector.fallback) throw new Error('vectors that fall back to another pattern are not run')
  const initiator = await handshakeOf(vector, protocolName, backend, true)
  const responder = await handshakeOf(vector, protocolName, backend, false)
  let ciphers: Record<'initiator' | 'responder', ReturnType<Handshake['split']>> | undefined
  const split = () => {
    ciphers ??= { initiator: initiator.split(), responder: responder.split() }
    same('handshake hash', ciphers.responder.hash, ciphers.initiator.hash)
    if (vector.handshake_hash) same('handshake hash', ciphers.initiator.hash, vector.handshake_hash)
    return ciphers
  }
  const turn = (fromInitiator: boolean): Turn => {
    if (!initiator.complete) {
      const [from, to] = fromInitiator ? [initiator, responder] : [responder, initiator]
      return { write: payload => from.write(payload), read: message => to.read(message) }
    }
    const both = split()
    const [from, to] = fromInitiator ? [both.initiator, both.responder] : [both.responder, both.initiator]
    return { write: payload => from.sending.seal(payload), read: message => to.receiving.open(message) }
  }
  const { oneWay } = findPattern(pattern)
  for (const [index, message] of vector.messages.entries()) {
    const what = `message ${index + 1}`
    const { write, read } = turn(oneWay || index % 2 === 0)
    if (vector.fail && index === vector.messages.length - 1) return refused(what, () => read(message.ciphertext))
    const written = await step(what, () => write(message.payload))
    same(what, written, message.ciphertext)
    same(`${what}, read`, await step(what, () => read(written)), message.payload)
  }
  if (!initiator.complete) throw new Error('the vector ends before its handshake')
  split()
}

/** Who sends a message and who reads it. */
interface Turn {
  readonly write: (payload: Uint8Array) => Uint8Array | Promise<Uint8Array>
  readonly read: (message: Uint8Array) => Uint8Array | Promise<Uint8Array>
}

async function handshakeOf(
  vector: Vector,
  protocolName: string,
  { suite, algorithmsOf }: Backend,
  initiator: boolean,
): Promise<Handshake> {
  const { pattern, cipher, hash } = parseProtocolName(protocolName)
  const end = initiator ? 'initiator' : 'responder'
  const member = <T>(name: string) => (vector[`${initiator ? 'init' : 'resp'}_${name}`] ?? undefined) as T | undefined
  const keys = (secret: Uint8Array | undefined) => secret && suite.importKeyPair(secret)
  const psk = member<Uint8Array>('psk')
  const psks = [...(member<Uint8Array[]>('psks') ?? []), ...(psk ? [psk] : [])]
  const { pskCount } = findPattern(pattern)
  if (psks.length !== pskCount) {
    throw new Error(`psks of the ${end}: ${psks.length}, the pattern takes ${pskCount}`)
  }
  const options = {
    suite,
    protocolName,
    algorithms: algorithmsOf(cipher, hash),
    initiator,
    prologue: member<Uint8Array>('prologue') ?? new Uint8Array(),
    staticKeys: keys(member('static')),
    ephemeralKeys: keys(member('ephemeral')),
    remoteStatic: member<Uint8Array>('remote_static'),
    // the handshake wipes its psks; both ends of a vector may share one array
    psks: psks.map(key => key.slice()),
  }
  return step(end, () => new Handshake(options))
}

async function refused(what: string, read: () => unknown): Promise<void> {
  try {
    await read()
  } catch (thrown) {
    if (thrown instanceof MortarError) return
    throw thrown
  }
  throw new Error(`${what}: must be refused, and was read`)
}

function same(what: string, seen: Uint8Array, expected: Uint8Array): void {
  if (!equalBytes(seen, expected)) throw new Error(`${what}: ${encodeHex(seen)}, expected ${encodeHex(expected)}`)
}
