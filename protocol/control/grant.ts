/**
 * The grant: the owner's signature that gives another user rights at one VM, until a time. The agent enforces it; the
 * broker reads it to let the holder see the VM and open sessions. SPEC §2.7
 */
import type { z } from 'zod'
import { equalBytes } from '../core/bytes.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { bytes, object, uint, uuid, z as zod } from '../core/schema.ts'
import { openStatement, sealStatement } from '../core/signing.ts'
import { GRANTED_ROLES, PERMISSIONS, type Permission, ROLES } from './roles.ts'

const LABEL = 'mortar grant v1'

const distinct = (items: readonly string[]) => new Set(items).size === items.length
const lists = <S extends z.ZodType<string>>(item: S, most: number) =>
  zod.array(item).max(most).refine(distinct, 'must not repeat an item')

/** A host (a name, an IPv4 address, or an IPv6 address in brackets), a colon, and a port. */
const tunnelTarget = zod
  .string()
  .max(261)
  .regex(/^([a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?|\[[0-9a-f:.]{2,45}\]):[1-9]\d{0,4}$/, 'needs host:port')
  .refine(target => Number(target.slice(target.lastIndexOf(':') + 1)) <= 65_535, 'needs a port of at most 65535')

const grantSchema = object({
  version: zod.literal(1),
  vm: uuid,
  /** who is given the rights: Ed25519 key */
  grantee: bytes(32),
  /** the same person's X25519 key, the initiator's static key in the channel */
  granteeDh: bytes(32),
  role: zod.enum(GRANTED_ROLES),
  /** at most those of the role */
  permissions: lists(zod.enum(PERMISSIONS), PERMISSIONS.length),
  /** ids of the drives that the commands for drives may name; null: every drive */
  drives: lists(uuid, LIMITS.grantItems).nullable(),
  /** where tunnels may lead */
  targets: lists(tunnelTarget, LIMITS.grantItems),
  /** seconds since 1970 */
  expires: uint(),
  /** grows with each grant to the same grantee; the agent takes none lower than one it has seen */
  serial: uint(),
  /** mark of the last revocation of this grantee in the VM, which the agent made; absent: there was none */
  after: bytes(16).optional(),
}).refine(
  ({ role, permissions }) =>
    permissions.every(permission => (ROLES[role] as readonly Permission[]).includes(permission)),
  'exceeds its role',
)
export type Grant = z.output<typeof grantSchema>

/** The signed grant. `seed`: the owner's Ed25519 seed. Fails with grant-invalid when it exceeds its role or is too long. */
export function signGrant(grant: Grant, seed: Uint8Array): Uint8Array {
  const checked = grantSchema.safeParse(grant)
  if (!checked.success) {
    const issue = checked.error.issues[0]
    throw new MortarError('grant-invalid', [issue?.path.join('.'), issue?.message].filter(Boolean).join(': '))
  }
  const signed = sealStatement(LABEL, checked.data, seed)
  if (signed.length > LIMITS.grantBytes) {
    throw new MortarError('grant-invalid', `${signed.length} bytes, at most ${LIMITS.grantBytes}: name fewer things`)
  }
  return signed
}

/** Reads a grant and checks that `owner` (Ed25519) signed it. Looks at neither clock nor serial. Fails with grant-invalid. */
export function openGrant(signed: Uint8Array, owner: Uint8Array): Grant {
  if (signed.length > LIMITS.grantBytes) throw new MortarError('grant-invalid', `${signed.length} bytes`)
  const { statement, key } = openStatement(LABEL, grantSchema, signed, 'grant-invalid')
  if (!equalBytes(key, owner)) throw new MortarError('grant-invalid', 'not signed by the owner')
  return statement
}

/** Fails with grant-expired when its time has passed. `nowMs`: ms since 1970. */
export function checkGrantTime(grant: Pick<Grant, 'expires'>, nowMs: number): void {
  const late = Math.floor(nowMs / 1000) - grant.expires
  if (late >= 0) throw new MortarError('grant-expired', `${late} s ago`)
}
