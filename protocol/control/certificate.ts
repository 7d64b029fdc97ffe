/**
 * The agent certificate: the owner's signature over the keys of one boot of a VM and the key of its next boot, made once a
 * session proved them. Later sessions and the owner's other devices trust it, not the broker. SPEC §2.4
 */
import type { z } from 'zod'
import { equalBytes } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { bytes, generation, object, uint, uuid, z as zod } from '../core/schema.ts'
import { openStatement, sealStatement } from '../core/signing.ts'

const LABEL = 'mortar agent certificate v1'

const certificateSchema = object({
  version: zod.literal(1),
  vm: uuid,
  launch: uuid,
  generation,
  /** the agent's X25519 key, the responder's static key in the channel */
  agentDh: bytes(32),
  /** the agent's Ed25519 key */
  agentSign: bytes(32),
  /** the one-use key that signed this boot's statement (SPEC §2.8) */
  provenBy: bytes(32),
  /** the key that will prove the next boot, as the agent said it in the session */
  nextBoot: bytes(32),
  /** grows with each certificate of a VM: ms since 1970 when it was signed, or more */
  serial: uint(),
  /** the owner chose this boot by hand: whatever else provenBy signed counts for nothing */
  confirmed: zod.boolean(),
})
export type AgentCertificate = z.output<typeof certificateSchema>

export function signCertificate(certificate: AgentCertificate, seed: Uint8Array): Uint8Array {
  return sealStatement(LABEL, certificateSchema.parse(certificate), seed)
}

/** Reads a certificate and checks that `owner` (Ed25519) signed it. Fails with certificate-invalid. */
export function openCertificate(signed: Uint8Array, owner: Uint8Array): AgentCertificate {
  const { statement, key } = openStatement(LABEL, certificateSchema, signed, 'certificate-invalid')
  if (!equalBytes(key, owner)) throw new MortarError('certificate-invalid', 'signed by another key')
  return statement
}
