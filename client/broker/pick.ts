/** Finds one thing among those that the broker lists, as a person names it: by id, or by name. */
import { MortarError } from '../../protocol/core/errors.ts'

interface Thing {
  readonly id: string
  readonly name: string
  /** Ed25519 key, base64url */
  readonly owner: string
}

/**
 * The thing of that id, else of that name. An administrator sees everybody's: a name means the user's own (`user`: key as
 * in `owner`) before another's. Fails with not-found, or bad-request when the name is not unique. `kind`: VM or drive.
 */
export function pick<T extends Thing>(kind: string, things: readonly T[], nameOrId: string, user: string): T {
  const byId = things.find(thing => thing.id === nameOrId)
  if (byId) return byId
  const named = things.filter(thing => thing.name === nameOrId)
  const own = named.filter(thing => thing.owner === user)
  const [found, ...others] = own.length > 0 ? own : named
  if (!found) throw new MortarError('not-found', `${kind} ${nameOrId}`)
  if (others.length > 0) {
    throw new MortarError('bad-request', `${others.length + 1} of kind ${kind} are named ${nameOrId}; give the id`)
  }
  return found
}
