/** `mortar grant list`: what the broker shows, beside what the VM itself has taken; where they differ it says so. */
import type { Vm } from '../../protocol/control/api.ts'
import { formatIdentity } from '../../protocol/control/login.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { asMortarError, type MortarError } from '../../protocol/core/errors.ts'
import {
  compareGrants,
  type GrantLine,
  type GrantStanding,
  type KnownGrant,
  knownGrants,
} from '../grants/known-grants.ts'
import { grantsOf } from '../grants/read-grants.ts'
import { findVm } from '../vms/vm.ts'
import type { Context } from './context.ts'
import { jsonOfGrant } from './grant.ts'
import { table, time } from './output.ts'
import { withSessionOf } from './session.ts'
import type { Action } from './subcommand.ts'

const WORDS: Readonly<Record<GrantStanding, string>> = {
  unused: 'not used yet',
  taken: 'in use since',
  newer: 'TOOK ANOTHER, not the one that the broker shows, since',
  refused: 'refuses it: revoked',
  hidden: 'TOOK ONE that the broker does not show, since',
}

export const list: Action = async (context, given) => {
  const vm = await findVm(await context.broker(), given.operand(0))
  const shown = grantsOf(vm)
  const known = await askVm(context, vm)
  if (!Array.isArray(known)) {
    const grants = shown.map(grant => ({ ...jsonOfGrant(grant), standing: null }))
    const rows = shown.map(grant =>
      rowOf({ standing: 'unused', grantee: grant.grantee, shown: grant, known: undefined }, false),
    )
    const why = known ? `${vm.name} could not be asked: ${known.message}` : 'only its owner may ask the VM'
    const text = `${table(HEADING, rows)}\n\nAll of this is what the broker shows (${why}). It may hide some.`
    return { json: { grants, word: 'broker', why: known?.code ?? 'denied' }, text }
  }
  const { clock } = await context.host()
  const lines = compareGrants(shown, known, Math.floor(clock.now() / 1000))
  const grants = lines.map(jsonOfLine)
  const text = table(
    HEADING,
    lines.map(line => rowOf(line, true)),
  )
  return { json: { grants, word: 'vm', why: null }, text: lines.some(isOdd) ? `${text}\n\n${advice(vm)}` : text }
}

const HEADING = ['ROLE', 'MAY', 'DRIVES', 'UNTIL', 'THE VM', 'GRANTEE']
const isOdd = ({ standing }: GrantLine) => standing === 'newer' || standing === 'hidden'
const advice = (vm: Vm) =>
  `A grant that the broker does not show was signed by you on another device, or shown to you before. To take back all that was ever signed to somebody: mortar grant revoke ${vm.name} mortar1…`

/** The VM's own account of its grantees; why there is none; or nothing, when it would not give one to this person. */
async function askVm(context: Context, vm: Vm): Promise<KnownGrant[] | MortarError | undefined> {
  if (vm.owner !== (await context.broker()).user) return undefined
  return withSessionOf(context, vm, knownGrants).catch(asMortarError)
}

/** A grantee of whom only the VM tells is known by the signing key alone. */
const nameOf = ({ shown, grantee }: GrantLine) =>
  shown ? formatIdentity({ sign: shown.grantee, dh: shown.granteeDh }) : `key ${encodeBase64url(grantee)}`

function rowOf(line: GrantLine, asked: boolean): string[] {
  const { shown, known, standing } = line
  const { role, permissions, expires } = shown ?? known?.taken ?? { role: '', permissions: [], expires: 0 }
  const since = known?.taken && standing !== 'refused' ? ` ${at(known.taken.since)}` : ''
  return [
    role,
    permissions.join(','),
    shown ? (shown.drives ? String(shown.drives.length) : 'all') : '?',
    at(expires),
    asked ? `${WORDS[standing]}${since}${known?.sessions ? `, ${known.sessions} sessions` : ''}` : '?',
    nameOf(line),
  ]
}

const at = (seconds: number) => time(new Date(seconds * 1000).toISOString())

function jsonOfLine({ standing, shown, known, grantee }: GrantLine) {
  const taken = known?.taken && { ...known.taken, expires: undefined, since: undefined }
  const times = known?.taken && { expiresAt: iso(known.taken.expires), since: iso(known.taken.since) }
  const vm = known ? { sessions: known.sessions, taken: known.taken ? { ...taken, ...times } : null } : null
  return { standing, key: encodeBase64url(grantee), ...(shown ? jsonOfGrant(shown) : {}), inVm: vm }
}

const iso = (seconds: number) => new Date(seconds * 1000).toISOString()
