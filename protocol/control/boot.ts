/**
 * The boot statement: what the keys of one boot are, signed by a key that serves one boot: the launch key for the first, then
 * the key that the boot before left for it. And the protest of a boot that still runs when another says it came after.
 * SPEC §2.8
 */
import type { z } from 'zod'
import { encodeBase64url, equalBytes } from '../core/bytes.ts'
import type { ErrorCode } from '../core/errors.ts'
import { bytes, generation, object, uuid, z as zod } from '../core/schema.ts'
import { openStatement, sealStatement, sign, verify } from '../core/signing.ts'

const LABEL = 'mortar boot v1'
const PROTEST_LABEL = 'mortar boot protest v1'

const bootSchema = object({
  version: zod.literal(1),
  vm: uuid,
  launch: uuid,
  /** boots that this overlay counted, from 1: for people, since it is lost with the agent's state */
  generation,
  /** kernel's id of this boot */
  boot: uuid,
  /** the agent's X25519 key */
  agentDh: bytes(32),
  /** the agent's Ed25519 key */
  agentSign: bytes(32),
  /** the key that will sign the statement of the next boot */
  nextBoot: bytes(32),
})
export type BootStatement = z.output<typeof bootSchema>

/** A statement that was opened. */
export interface Boot extends BootStatement {
  /** the one-use key that signed it */
  readonly provenBy: Uint8Array
  /** as it was signed */
  readonly signed: Uint8Array
}

/** `oneUseSeed`: of the launch key or of the next-boot key that the boot before left. */
export function signBoot(statement: BootStatement, oneUseSeed: Uint8Array): Uint8Array {
  return sealStatement(LABEL, bootSchema.parse(statement), oneUseSeed)
}

/** Reads a boot statement. Whether the key that signed it proves anything is the caller's to check. Fails with `code`. */
export function openBoot(signed: Uint8Array, code: ErrorCode = 'enrolment-invalid'): Boot {
  const { statement, key } = openStatement(LABEL, bootSchema, signed, code)
  return { ...statement, provenBy: key, signed }
}

/** By the agent of a boot that runs, over the statement of one that claims to follow it. */
export const signProtest = (successor: Uint8Array, agentSeed: Uint8Array): Uint8Array =>
  sign(PROTEST_LABEL, successor, agentSeed)

export const verifyProtest = (successor: Uint8Array, signature: Uint8Array, agentSign: Uint8Array): boolean =>
  verify(PROTEST_LABEL, successor, signature, agentSign)

type Keys = Pick<BootStatement, 'agentDh' | 'agentSign'>

/** Two that have the same keys are the same boot. */
export const sameBoot = (a: Keys, b: Keys): boolean =>
  equalBytes(a.agentDh, b.agentDh) && equalBytes(a.agentSign, b.agentSign)

/** How the broker stores and shows a boot's public keys. */
export function bootText({ agentDh, agentSign, provenBy, nextBoot, signed }: Boot) {
  return {
    agentDh: encodeBase64url(agentDh),
    agentSign: encodeBase64url(agentSign),
    provenBy: encodeBase64url(provenBy),
    nextBoot: encodeBase64url(nextBoot),
    statement: encodeBase64url(signed),
  }
}
