/**
 * What the one at the other end of a session may do, and the one function that asks. Absent means denied. SPEC §8.1
 */
import type { Caller } from './channel/secure-channel.ts'
import type { Command, Named, Params } from './commands/command.ts'
import { accountOf } from './control/account.ts'
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

/** The rights of a grant that was checked. A manager may act as any user in the VM, a user by the own account only. */
export function grantRights(grant: Grant, features: readonly Permission[]): Rights {
  return {
    grantee: encodeBase64url(grant.grantee),
    permissions: grant.permissions.filter(permission => features.includes(permission)),
    drives: grant.drives,
    targets: grant.targets,
    users: grant.role === 'manager' ? null : [accountOf(grant.grantee).name],
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

/** Whether the caller may name that; `beside`: what the other parameters name. */
type Rule = (rights: Rights, named: unknown, beside: Beside) => boolean
type Kind = NonNullable<Named>
type Beside = Readonly<Partial<Record<Kind, unknown>>>

const within = (listed: readonly string[] | null, named: unknown) => listed === null || listed.includes(named as string)

/** One for each kind of thing that a parameter can name. */
const RULES: Readonly<Record<Kind, Rule>> = {
  drive: ({ drives }, id) => within(drives, id),
  // a device is found by its serial, so a right to one drive must not go with the serial of another
  serial: ({ drives }, serial, { drive }) =>
    within(drives && (drive === undefined ? drives : drives.filter(id => id === drive)).map(driveSerial), serial),
  // the caller's own account is meant when nobody is named
  user: ({ users }, name) => name === undefined || within(users, name),
  target: ({ targets }, target) => within(targets, target),
  host: ({ targets }, host, { port }) => within(targets, targetOf(host, port)),
  port: ({ targets }, port, { host }) => within(targets, targetOf(host, port)),
}

/** As grants name it: an IPv6 address in brackets. */
function targetOf(host: unknown, port: unknown): string {
  return String(host).includes(':') ? `[${host}]:${port}` : `${host}:${port}`
}

/**
 * The parameters of a command, checked, if these rights allow the command with what its parameters name, by the command's
 * own declaration. Every command passes here before its handler runs. Fails with denied or bad-request.
 */
export function authorise<C extends Command>(rights: Rights, command: C, params: unknown): Params<C> {
  if (!rights.permissions.includes(command.permission)) throw new MortarError('denied', command.permission)
  const checked = command.params.safeParse(params)
  if (!checked.success) throw new MortarError('bad-request', checked.error.issues[0]?.message ?? '')
  const values = checked.data as Readonly<Record<string, unknown>>
  const declared = Object.entries(command.names).filter((entry): entry is [string, Kind] => entry[1] !== null)
  const beside: Beside = Object.fromEntries(declared.map(([parameter, kind]) => [kind, values[parameter]]))
  for (const [parameter, kind] of declared) {
    const allowed = Object.hasOwn(RULES, kind) && RULES[kind](rights, values[parameter], beside)
    if (!allowed) throw new MortarError('denied', `${parameter} ${values[parameter]}`)
  }
  return checked.data as Params<C>
}

/** Of the drives in a VM those that the caller may know of. */
export function visibleDrives<D extends { readonly serial: string }>({ drives }: Rights, all: readonly D[]): D[] {
  const serials = drives?.map(driveSerial)
  return all.filter(({ serial }) => within(serials ?? null, serial))
}
