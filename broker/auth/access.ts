/** Who may do what at the broker: owners and administrators, and at VMs the holders of grants; to others a thing does not exist. */
import type { Permission } from '../../protocol/control/roles.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { User } from './login.ts'

/** The thing, if the user may see and use it. Fails with not-found. `what` and `id` go into the message. */
export function requireAccess<T extends { readonly owner: string }>(
  user: User,
  thing: T | undefined,
  what: string,
  id: string,
): T {
  if (!thing || !hasAll(user, thing)) throw new MortarError('not-found', `${what} ${id}`)
  return thing
}

/** What the holder of a grant needs in it: any grant will do, or one with that permission, or none is enough. */
export type Need = Permission | 'any' | 'owner'

/** The VM, if the user may do that with it. `granted`: what the user's grant says. Fails with not-found for strangers, with denied for holders of lesser grants. */
export function requireVm<T extends { readonly owner: string }>(
  user: User,
  vm: T | undefined,
  id: string,
  granted: readonly Permission[] | undefined,
  need: Need,
): T {
  if (!vm || !granted || hasAll(user, vm)) return requireAccess(user, vm, 'VM', id)
  if (need !== 'any' && (need === 'owner' || !granted.includes(need))) throw new MortarError('denied', `VM ${id}`)
  return vm
}

/** Whether the thing is the user's, or the user an administrator. */
export function hasAll(user: User, thing: { readonly owner: string }): boolean {
  return thing.owner === user.key || user.role === 'administrator'
}

/** Whose things a list shows: undefined means everybody's. */
export function listScope(user: User): string | undefined {
  return user.role === 'administrator' ? undefined : user.key
}
