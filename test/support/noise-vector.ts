/** Runs a test vector in the format of cacophony through the real engine: both ends, every message, the transcript hash. */
import { Handshake } from '../../protocol/channel/handshake.ts'
import { findPattern, parseProtocolName } from '../../protocol/channel/patterns.ts'
import type { Algorithms, CipherName, HashName, Suite } from '../../protocol/channel/suite.ts'
import { decodeHex, encodeHex, equalBytes } from '../../protocol/core/bytes.ts'
import { z } from '../../protocol/core/schema.ts'

export interface Backend {
  readonly suite: Suite
  algorithmsOf(cipher: CipherName, hash: HashName): Algorithms
}

const hex = z
  .string()
  .regex(/^([0-9a-f]{2})*$/i, 'not bytes in hex')
  .transform(decodeHex)
const sideShape = (side: 'init' | 'resp') => ({
  [`${side}_prologue`]: hex.optional(),
  [`${side}_psks`]: z.array(hex).optional(),
  [`${side}_psk`]: hex.optional(),
  [`${side}_static`]: hex.optional(),
  [`${side}_ephemeral`]: hex.optional(),
  [`${side}_remote_static`]: hex.optional(),
})
const vectorSchema = z.looseObject({
  protocol_name: z.string().optional(),
  name: z.string().optional(),
  handshake_hash: hex.optional(),
  messages: z.array(z.looseObject({ payload: hex, ciphertext: hex })).min(1),
  ...sideShape('init'),
  ...sideShape('resp'),
})
const fileSchema = z.looseObject({ vectors: z.array(z.unknown()) })

/** The vectors of a file, as they are in it. Throws with one line that says which vector is malformed, and how. */
export function vectorsOf(json: string): unknown[] {
  const { vectors } = read(fileSchema, parseJson(json), 'not a file of vectors')
  for (const [index, vector] of vectors.entries()) read(vectorSchema, vector, `vector ${index + 1}, ${nameOf(vector)}`)
  return vectors
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text)
  } catch (cause) {
    throw new Error(`not JSON: ${(cause as Error).message.replaceAll(/\s+/g, ' ')}`, { cause })
  }
}

function read<S extends z.ZodType>(schema: S, value: unknown, what: string): z.output<S> {
  const checked = schema.safeParse(value)
  if (checked.success) return checked.data
  const issue = checked.error.issues[0]
  throw new Error([what, issue?.path.join('.'), issue?.message].filter(Boolean).join(': '))
}

/** What a vector calls itself. */
export function nameOf(vector: unknown): string {
  const { protocol_name, name } = (vector ?? {}) as Record<string, unknown>
  const own = protocol_name ?? name
  return typeof own === 'string' ? own : 'a vector without a name'
}

/** Runs a vector; throws with the first thing that differs, or because it names what we do not run. */
export async function runVector(input: unknown, backend: Backend): Promise<void> {
  const protocolName = nameOf(input)
  const vector = read(vectorSchema, input, protocolName) as z.output<typeof vectorSchema> & Record<string, unknown>
  const { pattern, cipher, hash } = parseProtocolName(protocolName)
  const { oneWay, pskCount } = findPattern(pattern)
  const algorithms = backend.algorithmsOf(cipher, hash)
  const end = (initiator: boolean) => {
    const member = <T>(name: string) => vector[`${initiator ? 'init' : 'resp'}_${name}`] as T | undefined
    const keys = (secret: Uint8Array | undefined) => secret && backend.suite.importKeyPair(secret)
    const psk = member<Uint8Array>('psk')
    const psks = [...(member<Uint8Array[]>('psks') ?? []), ...(psk ? [psk] : [])]
    if (psks.length !== pskCount) {
      throw new Error(
        `psks of the ${initiator ? 'initiator' : 'responder'}: ${psks.length}, the pattern takes ${pskCount}`,
      )
    }
    return new Handshake({
      suite: backend.suite,
      protocolName,
      algorithms,
      initiator,
      prologue: member<Uint8Array>('prologue') ?? new Uint8Array(),
      staticKeys: keys(member('static')),
      ephemeralKeys: keys(member('ephemeral')),
      remoteStatic: member('remote_static'),
      // the handshake wipes its psks; both ends of a vector may share one array
      psks: psks.map(key => key.slice()),
    })
  }
  const [initiator, responder] = [end(true), end(false)]
  let ciphers: Record<'initiator' | 'responder', ReturnType<Handshake['split']>> | undefined
  const split = () => {
    ciphers ??= { initiator: initiator.split(), responder: responder.split() }
    same('handshake hash', ciphers.responder.hash, ciphers.initiator.hash)
    if (vector.handshake_hash) same('handshake hash', ciphers.initiator.hash, vector.handshake_hash)
    return ciphers
  }
  for (const [index, { payload, ciphertext }] of vector.messages.entries()) {
    const what = `message ${index + 1}`
    const fromInitiator = oneWay || index % 2 === 0
    if (!initiator.complete) {
      const [sender, receiver] = fromInitiator ? [initiator, responder] : [responder, initiator]
      const message = await sender.write(payload)
      same(what, message, ciphertext)
      same(`${what}, read`, await receiver.read(message), payload)
    } else {
      const both = split()
      const [from, to] = fromInitiator ? [both.initiator, both.responder] : [both.responder, both.initiator]
      const sealed = from.sending.seal(payload)
      same(what, sealed, ciphertext)
      same(`${what}, read`, to.receiving.open(sealed), payload)
    }
  }
  if (!initiator.complete) throw new Error('the vector ends before its handshake')
  split()
}

function same(what: string, seen: Uint8Array, expected: Uint8Array): void {
  if (!equalBytes(seen, expected)) throw new Error(`${what}: ${encodeHex(seen)}, expected ${encodeHex(expected)}`)
}
