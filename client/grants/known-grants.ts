/** What a VM itself knows of grants, which its owner may ask it; and how that differs from what the broker shows. SPEC §9.6 */
import type { ToClientBody } from '../../protocol/commands/command.ts'
import { grantList } from '../../protocol/commands/grants.ts'
import type { Grant } from '../../protocol/control/grant.ts'
import { equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { ClientSession } from '../../protocol/session.ts'

export type KnownGrant = ToClientBody<typeof grantList, 'known'>[number]

/** Asks the VM whom it has let in and shut out. For its owner. */
export async function knownGrants(session: Pick<ClientSession, 'open'>): Promise<KnownGrant[]> {
  const call = await session.open(grantList, {})
  const known: KnownGrant[] = []
  for await (const item of call.received()) {
    if (item.type === 'message') known.push(...item.body)
    if (known.length > LIMITS.grantees) throw new MortarError('protocol-violation', 'more grantees than a VM remembers')
  }
  return known
}

/**
 * unused: the VM would take what the broker shows and has not yet; taken: the VM took that very grant; newer: the VM took another
 * that was signed later; refused: the VM takes it no more; hidden: the VM took one of which the broker shows nothing
 */
export type GrantStanding = 'unused' | 'taken' | 'newer' | 'refused' | 'hidden'

export interface GrantLine {
  readonly standing: GrantStanding
  readonly grantee: Uint8Array
  /** as the broker shows it; undefined: not at all */
  readonly shown: Grant | undefined
  /** as the VM knows the grantee; undefined: not at all */
  readonly known: KnownGrant | undefined
}

/** Every grant that the broker shows or the VM has in force, each once. `nowSeconds`: since 1970. */
export function compareGrants(shown: readonly Grant[], known: readonly KnownGrant[], nowSeconds: number): GrantLine[] {
  const lines = shown.map((grant): GrantLine => {
    const there = known.find(item => equalBytes(item.grantee, grant.grantee))
    return { standing: standingOf(grant, there), grantee: grant.grantee, shown: grant, known: there }
  })
  for (const item of known) {
    const open = item.sessions > 0 || (item.taken !== null && item.taken.expires > nowSeconds)
    if (!open || shown.some(({ grantee }) => equalBytes(grantee, item.grantee))) continue
    lines.push({ standing: 'hidden', grantee: item.grantee, shown: undefined, known: item })
  }
  return lines
}

function standingOf({ serial, after }: Grant, known: KnownGrant | undefined): GrantStanding {
  const none = new Uint8Array(0)
  const sameMark = equalBytes(after ?? none, known?.mark ?? none)
  const taken = known?.taken
  if (taken && (!sameMark || taken.serial > serial)) return 'newer'
  if (!sameMark) return 'refused'
  return taken?.serial === serial ? 'taken' : 'unused'
}
