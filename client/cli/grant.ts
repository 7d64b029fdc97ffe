/** `mortar grant create` and `revoke`: gives other users rights at a VM and takes them back. */
import type { Grant } from '../../protocol/control/grant.ts'
import { formatIdentity } from '../../protocol/control/login.ts'
import { GRANTED_ROLES, OFFERED, offeredTo, PERMISSIONS, type Permission } from '../../protocol/control/roles.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { findDrive } from '../drives/drives.ts'
import { createGrant, revokeGrant } from '../grants/grants.ts'
import { findVm } from '../vms/vm.ts'
import { type Context, parseDuration } from './context.ts'
import { facts, time } from './output.ts'
import type { Action, Arguments } from './subcommand.ts'

export const create: Action = async (context, given) => {
  const role = GRANTED_ROLES.find(name => name === given.text('role'))
  if (!role) throw new MortarError('usage', `--role is one of ${GRANTED_ROLES.join(', ')}`)
  const permissions = permissionsOf(given, offeredTo(role))
  const seconds = parseDuration(given.text('expires') ?? '')
  const [broker, identity, host] = [await context.broker(), await context.identity(), await context.host()]
  const vm = await findVm(broker, given.operand(0))
  const creating = createGrant(broker, identity, host, vm, {
    grantee: given.operand(1),
    role,
    ...(permissions && { permissions }),
    drives: await drivesOf(context, given),
    seconds,
  })
  const { grant, notAsked, replaces } = await context.progress.during(`asking ${vm.name}`, creating)
  const shown = jsonOfGrant(grant)
  const pairs: [string, string][] = [
    ['vm', `${vm.name} (${vm.id})`],
    ['grantee', shown.identity],
    ['role', shown.role],
    ['may', shown.permissions.join(', ')],
    ['drives', shown.drives?.join(', ') ?? 'all'],
    ['until', time(shown.expiresAt)],
  ]
  const lines = [facts(pairs)]
  if (replaces) lines.push('', `The older grant holds in ${vm.name} until this one is first used there.`)
  if (notAsked) {
    lines.push(
      '',
      `${vm.name} was not asked (${notAsked.message}). If it ever took a grant of theirs back, it refuses this one: create it again when ${vm.name} answers.`,
    )
  }
  return { json: { grant: shown, vmAsked: notAsked === undefined, replaces }, text: lines.join('\n') }
}

export const revoke: Action = async (context, given) => {
  const [broker, identity, host] = [await context.broker(), await context.identity(), await context.host()]
  const vm = await findVm(broker, given.operand(0))
  const grantee = given.operand(1)
  const revoking = revokeGrant(broker, identity, host, vm, grantee)
  const { serial, sessions, programsEnded, notDeleted } = await context.progress.during(`telling ${vm.name}`, revoking)
  const ended = sessions === 1 ? '1 open session of theirs has ended' : `${sessions} open sessions of theirs have ended`
  const programs = programsEnded
    ? 'and so has all that they had started'
    : 'but programs that they left running behind a session may go on; only a reboot or you end those'
  const text = [`${vm.name} says that it lets ${grantee} in no more; ${ended}, ${programs}`]
  if (notDeleted) text.push(`The broker keeps its copy of the grant, by which nobody gets in: ${notDeleted.message}`)
  const facts = { revokedInVm: true, serial, sessions, programsEnded, deletedAtBroker: notDeleted === undefined }
  return { json: { revoked: grantee, vm: vm.id, ...facts }, text: text.join('\n') }
}

/** What --allow names; undefined without it. `offered`: what the role can be given. Fails with usage. */
function permissionsOf(given: Arguments, offered: readonly Permission[]): readonly Permission[] | undefined {
  const words = given.text('allow')?.split(',')
  return words?.map(word => {
    const permission = PERMISSIONS.find(name => name === word.trim())
    const words = `--allow takes words of ${offered.join(', ')}`
    if (!permission) throw new MortarError('usage', `${words}, not "${word}"`)
    if (!OFFERED.includes(permission)) {
      throw new MortarError('usage', `${words}; "${permission}" is kept for later and gives nothing in this version`)
    }
    if (!offered.includes(permission)) {
      const roles = GRANTED_ROLES.filter(role => offeredTo(role).includes(permission))
      const needs = roles.length === 0 ? 'only the owner has it' : `it takes --role ${roles.join(' or ')}`
      throw new MortarError('usage', `${words}; "${permission}" is not among them: ${needs}`)
    }
    return permission
  })
}

/** Ids of the drives named; null for all. Fails with not-found, usage. */
async function drivesOf(context: Context, given: Arguments): Promise<string[] | null> {
  const names = given.list('drive')
  if (!given.flag('allDrives')) {
    const broker = await context.broker()
    return Promise.all(names.map(async name => (await findDrive(broker, name)).id))
  }
  if (names.length > 0) throw new MortarError('usage', '--drive and --all-drives exclude each other')
  return null
}

/** A grant as people and programs read it. */
export function jsonOfGrant({ vm, grantee, granteeDh, role, permissions, drives, targets, expires, serial }: Grant) {
  const identity = formatIdentity({ sign: grantee, dh: granteeDh })
  const expiresAt = new Date(expires * 1000).toISOString()
  return { vm, identity, role, permissions, drives, targets, expiresAt, serial }
}
