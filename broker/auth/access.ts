/** Who may do what at the broker: the owner and administrators, nobody else; to others a thing does not exist. */
import { MortarError } from '../../protocol/core/errors.ts'
import type { User } from './login.ts'

/** The thing, if the user may see and use it. Fails with not-found. `what` and `id` go into the message. */
export function requireAccess<T extends { readonly owner: string }>(
  user: User,
  thing: T | undefined,
  what: string,
  id: string,
): T {
  if (!thing || (thing.owner !== user.key && user.role !== 'administrator')) {
    throw new MortarError('not-found', `${what} ${id}`)
  }
  return thing
}

/** Whose things a list shows: undefined means everybody's. */
export function listScope(user: User): string | undefined {
  return user.role === 'administrator' ? undefined : user.key
}
