/**
 * The agent's control socket at the broker: challenge, enrolment, offers of sessions, reports. JSON text messages of
 * bounded size. SPEC §3.2
 */
import type { z } from 'zod'
import { concat } from '../core/bytes.ts'
import { decodeCbor, encodeCbor } from '../core/codec.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { base64urlOf, bytes, generation, object, text, uint, uuid, z as zod } from '../core/schema.ts'
import { sign, verify } from '../core/signing.ts'

const LABEL = 'mortar enrolment v1'

/** What an agent says of itself; signed twice, by the key the launch secret yields and by the agent's own key. */
const enrolmentSchema = object({
  version: zod.literal(1),
  vm: uuid,
  launch: uuid,
  /** boots of this overlay, from 1 */
  generation,
  /** kernel's id of this boot */
  boot: uuid,
  agentDh: bytes(32),
  agentSign: bytes(32),
  /** IP addresses of the guest, textual */
  addresses: zod.array(text(64)).max(LIMITS.addresses),
  brick: bytes(32),
  agentVersion: text(64),
  /** versions of the channel protocol that the agent speaks */
  protocols: zod.array(uint(65_535)).min(1).max(8),
})
export type Enrolment = z.output<typeof enrolmentSchema>

export interface SignedEnrolment {
  readonly body: Uint8Array
  readonly launchSignature: Uint8Array
  readonly agentSignature: Uint8Array
}

/** Signs an enrolment for the broker's challenge. `launchSeed` is derived from the launch secret (SPEC §2.3). */
export function signEnrolment(
  enrolment: Enrolment,
  nonce: Uint8Array,
  launchSeed: Uint8Array,
  agentSeed: Uint8Array,
): SignedEnrolment {
  const body = encodeCbor(enrolmentSchema.parse(enrolment))
  const message = concat(nonce, body)
  return { body, launchSignature: sign(LABEL, message, launchSeed), agentSignature: sign(LABEL, message, agentSeed) }
}

/** Checks both signatures. `commitment`: the ticket's. Fails with enrolment-invalid. */
export function openEnrolment(
  signed: SignedEnrolment,
  nonce: Uint8Array,
  commitmentOf: (vm: string) => Uint8Array,
): Enrolment {
  const enrolment = decodeCbor(enrolmentSchema, signed.body, LIMITS.controlBytes, 'enrolment-invalid')
  const message = concat(nonce, signed.body)
  const proven =
    verify(LABEL, message, signed.launchSignature, commitmentOf(enrolment.vm)) &&
    verify(LABEL, message, signed.agentSignature, enrolment.agentSign)
  if (!proven) throw new MortarError('enrolment-invalid', enrolment.vm)
  return enrolment
}

/** Messages of the control socket, broker to agent. */
export const toAgentSchema = zod.discriminatedUnion('type', [
  object({ type: zod.literal('challenge'), nonce: base64urlOf(32), broker: base64urlOf(32) }),
  /** the answer to an enrolment: the owner's keys, which the agent compares with the ticket */
  object({
    type: zod.literal('enrolled'),
    owner: base64urlOf(32),
    ownerDh: base64urlOf(32),
    generation,
  }),
  object({ type: zod.literal('refused'), code: text(64) }),
  /** open a data socket with this token; kind channel: encrypted session, kind ssh: bytes for sshd; user: who asked for it, as the broker says */
  object({
    type: zod.literal('offer'),
    session: uuid,
    token: base64urlOf(32),
    kind: zod.enum(['channel', 'ssh']),
    user: base64urlOf(32),
  }),
])
export type ToAgent = z.output<typeof toAgentSchema>

/** Messages of the control socket, agent to broker. */
export const toBrokerSchema = zod.discriminatedUnion('type', [
  object({
    type: zod.literal('enrol'),
    body: zod.string().max(4096),
    launchSignature: base64urlOf(64),
    agentSignature: base64urlOf(64),
  }),
  /** the owner has proven an identity in a session and the VM can be used */
  object({ type: zod.literal('ready') }),
  /** an offer could not be taken */
  object({ type: zod.literal('declined'), session: uuid, code: text(64) }),
])
export type ToBroker = z.output<typeof toBrokerSchema>

const STRINGS = /"(?:[^"\\]|\\.)*"/g

/** JSON.parse takes the last of members that have one name. Outside of strings, each member of valid JSON has one colon. */
function requireDistinct(json: string, message: object): void {
  const members = json.replace(STRINGS, '').split(':').length - 1
  if (members !== Object.keys(message).length) throw new Error('a member is repeated')
}

/** Reads a control message: a flat object, no member twice. Fails with protocol-violation. */
export function readControl<S extends z.ZodType>(schema: S, json: string): z.output<S> {
  if (json.length > LIMITS.controlBytes) throw new MortarError('protocol-violation', 'control message too long')
  try {
    const message: unknown = JSON.parse(json)
    const checked = schema.parse(message)
    requireDistinct(json, message as object)
    return checked
  } catch (cause) {
    throw new MortarError('protocol-violation', 'control message not understood', { cause })
  }
}
