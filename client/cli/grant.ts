/** `mortar grant`: gives other users rights at a VM, lists them, takes them back. */
import type { Grant } from '../../protocol/control/grant.ts'
import { formatIdentity } from '../../protocol/control/login.ts'
import { GRANTED_ROLES, PERMISSIONS, type Permission } from '../../protocol/control/roles.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { findDrive } from '../drives.ts'
import { createGrant, revokeGrant } from '../grants.ts'
import { grantsOf } from '../read-grants.ts'
import { findVm } from '../vm.ts'
import { type Context, parseDuration } from './context.ts'
import { facts, table, time } from './output.ts'
import type { Action, Arguments } from './subcommand.ts'

export const create: Action = async (context, given) => {
  const role = GRANTED_ROLES.find(name => name === given.text('role'))
  if (!role) throw new MortarError('usage', `--role is one of ${GRANTED_ROLES.join(', ')}`)
  const permissions = permissionsOf(given)
  const seconds = parseDuration(given.text('expires') ?? '')
  const [broker, identity, host] = [await context.broker(), await context.identity(), await context.host()]
  const vm = await findVm(broker, given.operand(0))
  const grant = await createGrant(broker, identity, host.clock, vm, {
    grantee: given.operand(1),
    role,
    ...(permissions && { permissions }),
    drives: await drivesOf(context, given),
    targets: given.list('target'),
    seconds,
  })
  const shown = jsonOf(grant)
  const pairs: [string, string][] = [
    ['vm', `${vm.name} (${vm.id})`],
    ['grantee', shown.identity],
    ['role', shown.role],
    ['may', shown.permissions.join(', ')],
    ['drives', shown.drives?.join(', ') ?? 'all'],
    ['tunnels to', shown.targets.join(', ')],
    ['until', time(shown.expiresAt)],
  ]
  return { json: { grant: shown }, text: facts(pairs) }
}

export const list: Action = async (context, given) => {
  const vm = await findVm(await context.broker(), given.operand(0))
  const grants = grantsOf(vm).map(jsonOf)
  const rows = grants.map(({ identity, role, permissions, drives, expiresAt }) => [
    role,
    permissions.join(','),
    drives ? String(drives.length) : 'all',
    time(expiresAt),
    identity,
  ])
  return { json: { grants }, text: table(['ROLE', 'MAY', 'DRIVES', 'UNTIL', 'GRANTEE'], rows) }
}

export const revoke: Action = async (context, given) => {
  const [broker, identity, host] = [await context.broker(), await context.identity(), await context.host()]
  const vm = await findVm(broker, given.operand(0))
  const grantee = given.operand(1)
  await context.progress.during(`telling ${vm.name}`, revokeGrant(broker, identity, host, vm, grantee))
  return { json: { revoked: grantee, vm: vm.id }, text: `${vm.name} lets ${grantee} in no more` }
}

/** What --allow names; undefined without it. Fails with usage. */
function permissionsOf(given: Arguments): readonly Permission[] | undefined {
  const words = given.text('allow')?.split(',')
  return words?.map(word => {
    const permission = PERMISSIONS.find(name => name === word.trim())
    if (!permission) throw new MortarError('usage', `--allow takes words of ${PERMISSIONS.join(', ')}, not "${word}"`)
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
function jsonOf({ vm, grantee, granteeDh, role, permissions, drives, targets, expires, serial }: Grant) {
  const identity = formatIdentity({ sign: grantee, dh: granteeDh })
  const expiresAt = new Date(expires * 1000).toISOString()
  return { vm, identity, role, permissions, drives, targets, expiresAt, serial }
}
