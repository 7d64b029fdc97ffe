/** `mortar drive`: makes, attaches, unlocks, locks, detaches and deletes drives. */
import type { Drive } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { BrokerApi } from '../broker-api.ts'
import { createDrive, findDrive, formatDrive, lockDrive, unlockDrive } from '../drives.ts'
import { findVm } from '../vm.ts'
import { parseSize } from './context.ts'
import { facts, size, table, time } from './output.ts'
import { lockDrivesOf, withSession } from './session.ts'
import type { Action, Outcome } from './subcommand.ts'

export const create: Action = async (context, given) => {
  const sizeBytes = parseSize(given.text('size') ?? '')
  const { suite } = await context.host()
  const creating = createDrive(await context.broker(), await context.identity(), suite, {
    name: given.operand(0),
    sizeBytes,
  })
  return outcomeOf(await context.progress.during('creating the drive', creating))
}

export const list: Action = async context => {
  const broker = await context.broker()
  const drives = await broker.drives()
  const names = new Map(drives.some(drive => drive.attachedTo) ? (await broker.vms()).map(vm => [vm.id, vm.name]) : [])
  const rows = drives.map(drive => [
    drive.name,
    size(drive.sizeBytes),
    drive.attachedTo ? (names.get(drive.attachedTo) ?? drive.attachedTo) : '',
    time(drive.createdAt),
    drive.id,
  ])
  return { json: { drives }, text: table(['NAME', 'SIZE', 'ATTACHED TO', 'CREATED', 'ID'], rows) }
}

export const attach: Action = async (context, given) => {
  const broker = await context.broker()
  const drive = await findDrive(broker, given.operand(0))
  const vm = await findVm(broker, given.operand(1))
  const attaching = broker.attachDrive(drive.id, vm.id)
  return outcomeOf(await context.progress.during(`attaching ${drive.name} to ${vm.name}`, attaching))
}

export const unlock: Action = async (context, given) => {
  const [format, erase, readOnly] = [given.flag('format'), given.flag('erase'), given.flag('readOnly')]
  if (erase && !format) throw new MortarError('usage', '--erase goes with --format')
  const broker = await context.broker()
  const identity = await context.identity()
  let drive = await findDrive(broker, given.operand(0))
  const [, expected] = given.operands
  if (expected !== undefined) await requireAttached(broker, drive, expected)
  return withSession(context, vmOf(drive), async session => {
    if (format) {
      const formatting = formatDrive(broker, identity, session, drive, { erase })
      drive = await context.progress.during(`formatting ${drive.name}`, formatting)
    }
    const unlocking = unlockDrive(identity, session, drive, { readOnly })
    const mounted = await context.progress.during(`unlocking ${drive.name}`, unlocking)
    const text = `${mounted.mountPoint}  ${size(mounted.freeBytes)} free of ${size(mounted.sizeBytes)}`
    return { json: mounted, text }
  })
}

export const lock: Action = async (context, given) => {
  const drive = await findDrive(await context.broker(), given.operand(0))
  await withSession(context, vmOf(drive), session =>
    context.progress.during(`locking ${drive.name}`, lockDrive(session, drive)),
  )
  return outcomeOf(drive)
}

export const detach: Action = async (context, given) => {
  const broker = await context.broker()
  const drive = await findDrive(broker, given.operand(0))
  const vm = await broker.vm(vmOf(drive))
  await lockDrivesOf(context, vm, given.flag('force'), drive.id)
  const detaching = broker.detachDrive(drive.id)
  return outcomeOf(await context.progress.during(`detaching ${drive.name} from ${vm.name}`, detaching))
}

export const remove: Action = async (context, given) => {
  const broker = await context.broker()
  const drive = await findDrive(broker, given.operand(0))
  await broker.deleteDrive(drive.id)
  return { json: { deleted: drive.id }, text: `deleted ${drive.name}` }
}

/** Where a drive is attached the broker says; a key is to go to the VM that the person means. Fails with drive-detached. */
async function requireAttached(broker: BrokerApi, drive: Drive, nameOrId: string): Promise<void> {
  const vm = await findVm(broker, nameOrId)
  if (drive.attachedTo === vm.id) return
  throw new MortarError(
    'drive-detached',
    `${drive.name} is attached to ${drive.attachedTo ?? 'no VM'}, not to ${vm.id}`,
  )
}

/** Id of the VM that a drive is attached to. Fails with drive-detached. */
function vmOf(drive: Drive): string {
  if (!drive.attachedTo) throw new MortarError('drive-detached', `${drive.name} is attached to no VM`)
  return drive.attachedTo
}

function outcomeOf(drive: Drive): Outcome {
  const pairs: [string, string][] = [
    ['name', drive.name],
    ['id', drive.id],
    ['size', size(drive.sizeBytes)],
    ['serial', drive.serial],
    ['attached to', drive.attachedTo ?? 'no VM'],
    ['created', time(drive.createdAt)],
  ]
  return { json: { drive }, text: facts(pairs) }
}
