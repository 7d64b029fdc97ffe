/**
 * The agent's control socket at the broker: challenge, enrolment, offers of sessions, reports. JSON text messages of
 * bounded size. SPEC §3.2
 */
import type { z } from 'zod'
import { concat, equalBytes } from '../core/bytes.ts'
import { decodeCbor, encodeCbor } from '../core/codec.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { base64urlOf, bytes, object, text, uint, uuid, z as zod } from '../core/schema.ts'
import { sha256, sign, verify } from '../core/signing.ts'
import { type Boot, openBoot } from './boot.ts'

const LABEL = 'mortar enrolment v1'

/** What an agent says of itself beside its boot statement. */
const enrolmentSchema = object({
  version: zod.literal(1),
  /** IP addresses of the guest, textual */
  addresses: zod.array(text(64)).max(LIMITS.addresses),
  brick: bytes(32),
  agentVersion: text(64),
  /** versions of the channel protocol that the agent speaks */
  protocols: zod.array(uint(65_535)).min(1).max(8),
})
export type Enrolment = z.output<typeof enrolmentSchema>

export interface SignedEnrolment {
  /** signed boot statement (SPEC §2.8) */
  readonly boot: Uint8Array
  /** statements of the boots before it that no broker has answered, oldest first */
  readonly line: readonly Uint8Array[]
  readonly body: Uint8Array
  /** by the key agentSign of the boot statement */
  readonly signature: Uint8Array
}

/** nonce ‖ SHA-256 of the boot statement ‖ body */
const messageOf = (nonce: Uint8Array, boot: Uint8Array, body: Uint8Array) => concat(nonce, sha256(boot), body)

/** Signs an enrolment for the broker's challenge. */
export function signEnrolment(
  enrolment: Enrolment,
  { boot, line }: Pick<SignedEnrolment, 'boot' | 'line'>,
  nonce: Uint8Array,
  agentSeed: Uint8Array,
): SignedEnrolment {
  const body = encodeCbor(enrolmentSchema.parse(enrolment))
  return { boot, line, body, signature: sign(LABEL, messageOf(nonce, boot, body), agentSeed) }
}

/**
 * Checks the signatures of the statements and of the agent that the last one names, and that each of the line left the key of the
 * next. Which key signed the first, and so what it proves, is the caller's to judge. Fails with enrolment-invalid.
 */
export function openEnrolment(
  signed: SignedEnrolment,
  nonce: Uint8Array,
): { boot: Boot; line: Boot[]; enrolment: Enrolment } {
  const boot = openBoot(signed.boot)
  const enrolment = decodeCbor(enrolmentSchema, signed.body, LIMITS.controlBytes, 'enrolment-invalid')
  if (!verify(LABEL, messageOf(nonce, signed.boot, signed.body), signed.signature, boot.agentSign)) {
    throw new MortarError('enrolment-invalid', boot.vm)
  }
  const line = signed.line.map(statement => openBoot(statement))
  const linked = [...line, boot].every((each, index, all) => {
    const before = all[index - 1]
    return each.vm === boot.vm && (!before || equalBytes(each.provenBy, before.nextBoot))
  })
  if (!linked) throw new MortarError('enrolment-invalid', boot.vm)
  return { boot, line, enrolment }
}

/** a signed boot statement as base64url */
const bootStatementText = zod.string().max(LIMITS.bootStatementCharacters)

/** Messages of the control socket, broker to agent. */
export const toAgentSchema = zod.discriminatedUnion('type', [
  object({ type: zod.literal('challenge'), nonce: base64urlOf(32), broker: base64urlOf(32) }),
  /** the answer to an enrolment: the owner's keys, which the agent compares with the ticket */
  object({
    type: zod.literal('enrolled'),
    owner: base64urlOf(32),
    ownerDh: base64urlOf(32),
    /** current: sessions come here; waiting: until the owner has decided, or the boot before is known to be over */
    standing: zod.enum(['current', 'waiting']),
  }),
  object({ type: zod.literal('refused'), code: text(64) }),
  /** to an agent that still runs: this boot statement says that it came after yours */
  object({ type: zod.literal('succeeded'), boot: bootStatementText }),
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
    vm: uuid,
    boot: bootStatementText,
    /** statements of boots before this one that no broker has answered, oldest first */
    line: zod.array(bootStatementText).max(LIMITS.bootLine),
    body: zod.string().max(4096),
    signature: base64urlOf(64),
  }),
  /** the answer to `succeeded`: this boot runs, and the other is not its successor */
  object({ type: zod.literal('protest'), signature: base64urlOf(64) }),
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
