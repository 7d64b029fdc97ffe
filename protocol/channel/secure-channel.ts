/**
 * The secure channel: runs Noise_XKpsk3_25519_ChaChaPoly_SHA256 over a transport and then is a transport itself, whose
 * packets are the plaintext of records. Client = initiator, agent = responder. What goes wrong ends it without a reason
 * to the other side. SPEC §5, §6.1
 */
import type { z } from 'zod'
import { concat, encodeText, equalBytes, release, writeUint } from '../core/bytes.ts'
import type { Clock } from '../core/clock.ts'
import { decodeCbor, encodeCbor } from '../core/codec.ts'
import { type ErrorCode, MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { bytes, bytesUpTo, object, z as zod } from '../core/schema.ts'
import { wipe } from '../core/secret.ts'
import type { Transport } from '../core/transport.ts'
import type { CipherState } from './cipher-state.ts'
import { channelPsk } from './derive.ts'
import { Handshake } from './handshake.ts'
import type { KeyPair, Suite } from './suite.ts'

const PROTOCOL_NAME = 'Noise_XKpsk3_25519_ChaChaPoly_SHA256'
const PROTOCOL_VERSION = 1

/** What both ends know of a session beforehand; hashed into the handshake, so a difference breaks it. */
export interface SessionFacts {
  /** the broker's Ed25519 key, 32 bytes */
  readonly broker: Uint8Array
  readonly vm: string
  readonly launch: string
  readonly session: string
}

interface ChannelOptions {
  readonly transport: Transport
  readonly suite: Suite
  readonly clock: Clock
  readonly facts: SessionFacts
}

/** The public keys of one boot of an agent: X25519 and Ed25519, 32 bytes each. */
export interface AgentKeys {
  readonly dh: Uint8Array
  readonly sign: Uint8Array
}

/** first: the launch secret proves both ends; known: the owner's certificate named the agent's key. SPEC §5.2 */
export type Contact = { readonly kind: 'first'; readonly launchSecret: Uint8Array } | { readonly kind: 'known' }

/** payloads of the three messages; the KEM makes what is recorded today safe from tomorrow's quantum computer */
const helloSchema = object({
  version: zod.literal(PROTOCOL_VERSION),
  contact: zod.enum(['first', 'known']),
  /** ML-KEM-768 encapsulation key, for this handshake only */
  kem: bytes(1184),
})
const answerSchema = object({
  /** ML-KEM-768 ciphertext */
  kem: bytes(1088),
  /** the agent's Ed25519 key, which the certificate will name beside its X25519 key */
  sign: bytes(32),
  /** room for what hardware says of the VM; no kind is defined yet, so nobody looks at it */
  evidence: bytesUpTo(LIMITS.evidenceBytes).optional(),
})
const lastSchema = object({
  /** signed grant, from anybody but the owner */
  grant: bytesUpTo(LIMITS.grantBytes).optional(),
})

/** Who has proven a static key in the handshake: the owner, or somebody who showed a grant that is still to be checked. */
export type Caller =
  | { readonly kind: 'owner' }
  | { readonly kind: 'grantee'; readonly dh: Uint8Array; readonly grant: Uint8Array }

/** label ‖ versions offered ‖ broker ‖ VM ‖ launch ‖ session, each with its length in two bytes before it. SPEC §5.1 */
function prologueOf(facts: SessionFacts): Uint8Array {
  const fields = [
    encodeText('mortar channel'),
    Uint8Array.of(PROTOCOL_VERSION),
    facts.broker,
    encodeText(facts.vm),
    encodeText(facts.launch),
    encodeText(facts.session),
  ]
  return concat(
    ...fields.flatMap(field => {
      const length = new Uint8Array(2)
      writeUint(length, 0, 2, field.length)
      return [length, field]
    }),
  )
}

export class SecureChannel implements Transport {
  readonly #under: Transport
  readonly #sending: CipherState
  readonly #receiving: CipherState
  /** transcript hash of the handshake, 32 bytes */
  readonly bindingHash: Uint8Array
  #failure: MortarError | undefined
  #hungUp = false

  private constructor(under: Transport, keys: ReturnType<Handshake['split']>) {
    this.#under = under
    this.#sending = keys.sending
    this.#receiving = keys.receiving
    this.bindingHash = keys.hash
  }

  /** The client's half. Fails with handshake, timeout or connection-lost. The agent has proven itself only once its first record opens. */
  static open(
    options: ChannelOptions & { ownerKeys: KeyPair; agent: AgentKeys; contact: Contact; grant?: Uint8Array },
  ): Promise<SecureChannel> {
    const { transport, suite, contact } = options
    const prologue = prologueOf(options.facts)
    const kem = suite.generateKemKeys()
    const handshake = new Handshake({
      suite,
      protocolName: PROTOCOL_NAME,
      initiator: true,
      prologue,
      staticKeys: options.ownerKeys,
      remoteStatic: options.agent.dh,
    })
    return withDeadline(options, handshake, async () => {
      // -> e, es
      const hello = { version: PROTOCOL_VERSION, contact: contact.kind, kem: kem.publicKey }
      transport.send(await handshake.write(encodeCbor(hello)))
      // <- e, ee
      const packet = await receivePacket(transport, 'agent-key-mismatch')
      const answer = readPayload(answerSchema, await handshake.read(packet))
      if (!equalBytes(answer.sign, options.agent.sign))
        throw new MortarError('agent-key-mismatch', 'another Ed25519 key')
      const secret = kem.decapsulate(answer.kem)
      const launchSecret = contact.kind === 'first' ? contact.launchSecret : null
      addPsk(handshake, suite, { prologue, secret, launchSecret })
      // -> s, se, psk
      transport.send(await handshake.write(encodeCbor(options.grant ? { grant: options.grant } : {})))
      return new SecureChannel(transport, handshake.split())
    }).finally(() => kem.wipe())
  }

  /**
   * The agent's half: lets in whom `admit` does not refuse by throwing: the holder of `ownerDh`, or who shows a grant. Fails
   * with handshake, whose cause says why, timeout or connection-lost.
   */
  static accept(
    options: ChannelOptions & {
      agentKeys: KeyPair
      /** the agent's Ed25519 key, 32 bytes */
      agentSign: Uint8Array
      ownerDh: Uint8Array
      launchSecret: Uint8Array
      admit: (caller: Caller) => void
    },
  ): Promise<SecureChannel> {
    const { transport, suite } = options
    const prologue = prologueOf(options.facts)
    const handshake = new Handshake({
      suite,
      protocolName: PROTOCOL_NAME,
      initiator: false,
      prologue,
      staticKeys: options.agentKeys,
    })
    return withDeadline(options, handshake, async () => {
      const { contact, kem } = readPayload(helloSchema, await handshake.read(await receivePacket(transport)))
      const { ciphertext, secret } = suite.encapsulate(kem)
      addPsk(handshake, suite, { prologue, secret, launchSecret: contact === 'first' ? options.launchSecret : null })
      transport.send(await handshake.write(encodeCbor({ kem: ciphertext, sign: options.agentSign })))
      const { grant } = readPayload(lastSchema, await handshake.read(await receivePacket(transport)))
      const caller = callerOf(handshake.remoteStatic ?? new Uint8Array(), options.ownerDh, contact, grant)
      options.admit(caller)
      return new SecureChannel(transport, handshake.split())
    })
  }

  /** true once the other end closed in order, without a word */
  get hungUp(): boolean {
    return this.#hungUp
  }

  /** Seals one record. `plaintext`: at most LIMITS.recordPlaintextBytes. */
  send(plaintext: Uint8Array): void {
    if (this.#failure) throw this.#failure
    if (plaintext.length > LIMITS.recordPlaintextBytes) throw new MortarError('limit-exceeded', 'record')
    if (this.#sending.counter >= LIMITS.sessionRecords)
      throw new MortarError('connection-lost', 'the session is used up')
    this.#under.send(this.#sending.seal(plaintext))
    if (this.#sending.counter % LIMITS.recordsPerKey === 0) this.#sending.rekey()
  }

  /** The next record's plaintext, which is the caller's; null once the other side closed. Fails with record-invalid. */
  async receive(): Promise<Uint8Array | null> {
    const packet = await this.#receivePacket()
    if (this.#failure) throw this.#failure
    if (!packet) return null
    try {
      if (this.#receiving.counter >= LIMITS.sessionRecords) throw new MortarError('limit-exceeded', 'records')
      const plaintext = this.#receiving.open(packet)
      release(packet)
      if (this.#receiving.counter % LIMITS.recordsPerKey === 0) this.#receiving.rekey()
      return plaintext
    } catch (cause) {
      this.#failure = new MortarError('record-invalid', '', { cause })
      this.close()
      throw this.#failure
    }
  }

  /** What a relay says about the end of a session counts as no more than that it ended. SPEC §4 */
  async #receivePacket(): Promise<Uint8Array | null> {
    try {
      const packet = await this.#under.receive()
      this.#hungUp = packet === null
      return packet
    } catch (cause) {
      const { code } = cause as MortarError
      throw code === 'going-away' ? cause : new MortarError('connection-lost', '', { cause })
    }
  }

  /** Moves the sending key on; the other end does the same at the same record. SPEC §6.2 */
  rekeySending(): void {
    this.#sending.rekey()
  }

  rekeyReceiving(): void {
    this.#receiving.rekey()
  }

  drained(): Promise<void> {
    return this.#under.drained()
  }

  close(): void {
    this.#failure ??= new MortarError('connection-lost')
    this.#under.close()
    this.#sending.wipe()
    this.#receiving.wipe()
  }
}

/** `secret`: of the KEM, wiped here. */
function addPsk(
  handshake: Handshake,
  suite: Suite,
  { prologue, secret, launchSecret }: { prologue: Uint8Array; secret: Uint8Array; launchSecret: Uint8Array | null },
): void {
  try {
    handshake.addPsk(channelPsk(suite, prologue, secret, launchSecret))
  } finally {
    wipe(secret)
  }
}

/** Fails with handshake. The launch secret is the owner's alone, so nobody else makes first contact. SPEC §5 */
function callerOf(dh: Uint8Array, ownerDh: Uint8Array, contact: Contact['kind'], grant?: Uint8Array): Caller {
  if (equalBytes(dh, ownerDh) && !grant) return { kind: 'owner' }
  if (equalBytes(dh, ownerDh) || !grant || contact !== 'known') throw new MortarError('handshake', 'no grant')
  return { kind: 'grantee', dh, grant }
}

/** What a failed handshake is told as by its own code; all else is `handshake`. */
const TOLD: readonly ErrorCode[] = ['connection-lost', 'agent-key-mismatch']

async function receivePacket(transport: Transport, hungUp: ErrorCode = 'handshake'): Promise<Uint8Array> {
  const packet = await transport.receive()
  // an end that refuses closes in order and says nothing; a socket that is cut fails in receive()
  if (!packet) throw new MortarError(hungUp, 'the other end hung up')
  if (packet.length > LIMITS.handshakeBytes) throw new MortarError('handshake')
  return packet
}

function readPayload<S extends z.ZodType>(schema: S, payload: Uint8Array): z.output<S> {
  return decodeCbor(schema, payload, LIMITS.handshakeBytes, 'handshake')
}

/** Runs the handshake; closes the transport and forgets all keys when it fails or takes too long. */
async function withDeadline<T>(options: ChannelOptions, handshake: Handshake, run: () => Promise<T>): Promise<T> {
  let late = false
  const cancel = options.clock.after(LIMITS.handshakeMs, () => {
    late = true
    options.transport.close()
  })
  try {
    return await run()
  } catch (cause) {
    handshake.wipe()
    options.transport.close()
    if (late) throw new MortarError('timeout', 'handshake', { cause })
    if (cause instanceof MortarError && TOLD.includes(cause.code)) throw cause
    throw new MortarError('handshake', '', { cause })
  } finally {
    cancel()
  }
}
