/** The launch ticket: what the owner signs to have a VM started. Broker and agent both check it. SPEC §2.2 */
import type { z } from 'zod'
import { equalBytes } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { bytes, object, uint, uuid, z as zod } from '../core/schema.ts'
import { openStatement, sealStatement } from '../core/signing.ts'

const LABEL = 'mortar launch ticket v1'

const ticketSchema = object({
  version: zod.literal(1),
  vm: uuid,
  launch: uuid,
  /** the owner's Ed25519 key, which signs the ticket */
  owner: bytes(32),
  /** the owner's X25519 key, the initiator's static key in the channel */
  ownerDh: bytes(32),
  /** SHA-256 of the brick's image file */
  brick: bytes(32),
  /** Ed25519 key of the broker the ticket is for */
  broker: bytes(32),
  /** commitment to the launch secret: the Ed25519 public key derived from it (SPEC §2.3) */
  commitment: bytes(32),
  nonce: bytes(16),
  /** seconds since 1970 */
  expires: uint(),
})
export type LaunchTicket = z.output<typeof ticketSchema>

/** The signed ticket as bytes. `seed`: the owner's Ed25519 seed. */
export function signTicket(ticket: LaunchTicket, seed: Uint8Array): Uint8Array {
  return sealStatement(LABEL, ticketSchema.parse(ticket), seed)
}

/** Reads a signed ticket and checks that its owner signed it. Does not look at the clock. Fails with ticket-invalid. */
export function openTicket(signed: Uint8Array): LaunchTicket {
  const { statement, key } = openStatement(LABEL, ticketSchema, signed, 'ticket-invalid')
  if (!equalBytes(key, statement.owner)) throw new MortarError('ticket-invalid', 'not signed by its owner')
  return statement
}

/** Fails with ticket-expired when its time has passed and with ticket-invalid when it is valid for too long. `nowMs`: ms since 1970. */
export function checkTicketTime(ticket: LaunchTicket, nowMs: number): void {
  const now = Math.floor(nowMs / 1000)
  if (ticket.expires <= now) throw new MortarError('ticket-expired', `${now - ticket.expires} s ago`)
  if (ticket.expires > now + LIMITS.ticketSeconds + 60) {
    throw new MortarError('ticket-invalid', `valid for more than ${LIMITS.ticketSeconds} s`)
  }
}
