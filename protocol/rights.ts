/**
 * What the one at the other end of a session may do, and the one function that asks. Absent means denied. SPEC §8.1
 */
import type { Caller } from './channel/secure-channel.ts'
import type { Command, Params } from './commands/command.ts'
import { driveSerial } from './control/drive-serial.ts'
import type { Grant } from './control/grant.ts'
import { PERMISSIONS, type Permission } from './control/roles.ts'
import { encodeBase64url } from './core/bytes.ts'
import { MortarError } from './core/errors.ts'

export interface Rights {
  /** the grantee's Ed25519 key, base64url; null: the owner */
  readonly grantee: string | null
  readonly permissions: readonly Permission[]
  /** ids of drives; null: all */
  readonly drives: readonly string[] | null
  /** where tunnels may lead; null: anywhere */
  readonly targets: readonly string[] | null
  /** users in the VM whom a command may name; null: any */
  readonly users: readonly string[] | null
  /** ms since 1970 at which they end; null: with the session */
  readonly endsMs: number | null
}

/** `features`: what the brick's builder left switched on. */
export function ownerRights(features: readonly Permission[]): Rights {
  return { grantee: null, permissions: features, drives: null, targets: null, users: null, endsMs: null }
}

/** The rights of a grant that was checked. A manager may act as any user in the VM, a user as its default user only. */
export function grantRights(grant: Grant, features: readonly Permission[], defaultUser: string): Rights {
  return {
    grantee: encodeBase64url(grant.grantee),
    permissions: grant.permissions.filter(permission => features.includes(permission)),
    drives: grant.drives,
    targets: grant.targets,
    users: grant.role === 'manager' ? null : [defaultUser],
    endsMs: grant.expires * 1000,
  }
}

/** Admits the owner and nobody else. */
export const onlyOwner =
  (features: readonly Permission[] = PERMISSIONS) =>
  (caller: Caller): Rights => {
    if (caller.kind !== 'owner') throw new MortarError('denied', 'only the owner')
    return ownerRights(features)
  }

/**
 * The parameters of a command, checked, if these rights allow the command with them. Every command passes here before its
 * handler runs. Fails with denied or bad-request.
 */
export function authorise<C extends Command>(rights: Rights, command: C, params: unknown): Params<C> {
  if (!rights.permissions.includes(command.permission)) throw new MortarError('denied', command.permission)
  const checked = command.params.safeParse(params)
  if (!checked.success) throw new MortarError('bad-request', checked.error.issues[0]?.message ?? '')
  const { drive, serial, user } = checked.data as { drive?: string; serial?: string; user?: string }
  if (drive !== undefined && rights.drives) {
    // the device is found by its serial, so a right to one drive must not go with the serial of another
    const named = rights.drives.includes(drive) && (serial === undefined || serial === driveSerial(drive))
    if (!named) throw new MortarError('denied', `drive ${drive}`)
  }
  if (user !== undefined && rights.users && !rights.users.includes(user)) {
    throw new MortarError('denied', `as user ${user}`)
  }
  return checked.data as Params<C>
}
