/** Whose things are: a column for administrators, whose lists show everybody's. */
import type { BrokerApi } from '../broker/api.ts'

export interface OwnerColumn {
  readonly heading: readonly string[]
  /** the cell of a thing; `owner`: Ed25519 key, base64url */
  of(owner: string): readonly string[]
}

/** The column, which is none for other users: all that they see is theirs. */
export async function ownerColumn(broker: BrokerApi): Promise<OwnerColumn> {
  if ((await broker.login()) !== 'administrator') return { heading: [], of: () => [] }
  return { heading: ['OWNER'], of: owner => [owner === broker.user ? 'you' : owner] }
}
