/** `mortar drive`: makes, attaches, unlocks, locks, detaches and deletes drives. */
import { type Drive, driveCreate, type Vm } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { BrokerApi } from '../broker-api.ts'
import { createDrive, findDrive, formatDrive, lockDrive, unlockDrive } from '../drives.ts'
import { about } from '../name-error.ts'
import { findVm } from '../vm.ts'
import { type Context, parseSize } from './context.ts'
import { facts, size, table, time } from './output.ts'
import { ownerColumn } from './owner-column.ts'
import { lockDrivesOf, withSession } from './session.ts'
import type { Action, Outcome } from './subcommand.ts'

const { sizeBytes: allowed } = driveCreate.shape
const [LEAST_BYTES, MOST_BYTES] = [allowed.minValue ?? 0, allowed.maxValue ?? 0]

export const create: Action = async (context, given) => {
  const sizeBytes = parseSize(given.text('size') ?? '', LEAST_BYTES, MOST_BYTES)
  const { suite } = await context.host()
  const creating = createDrive(await context.broker(), await context.identity(), suite, {
    name: given.operand(0),
    sizeBytes,
  })
  const drive = await context.progress.during('creating the drive', creating)
  return outcomeOf(drive, `made ${drive.name}`)
}

export const list: Action = async context => {
  const broker = await context.broker()
  const drives = await broker.drives()
  const owners = await ownerColumn(broker)
  const names = new Map(drives.some(drive => drive.attachedTo) ? (await broker.vms()).map(vm => [vm.id, vm.name]) : [])
  const rows = drives.map(drive => [
    drive.name,
    size(drive.sizeBytes),
    drive.attachedTo ? (names.get(drive.attachedTo) ?? drive.attachedTo) : '',
    time(drive.createdAt),
    ...owners.of(drive.owner),
    drive.id,
  ])
  return { json: { drives }, text: table(['NAME', 'SIZE', 'ATTACHED TO', 'CREATED', ...owners.heading, 'ID'], rows) }
}

export const attach: Action = async (context, given) => {
  const broker = await context.broker()
  const drive = await findDrive(broker, given.operand(0))
  const vm = await findVm(broker, given.operand(1))
  const attaching = broker.attachDrive(drive.id, vm.id)
  const attached = await context.progress.during(`attaching ${drive.name} to ${vm.name}`, attaching)
  return outcomeOf(attached, `attached ${drive.name} to ${vm.name}, where it is locked`, vm.name)
}

export const unlock: Action = async (context, given) => {
  const [format, erase, readOnly] = [given.flag('format'), given.flag('erase'), given.flag('readOnly')]
  if (erase && !format) throw new MortarError('usage', '--erase goes with --format')
  const broker = await context.broker()
  const identity = await context.identity()
  let drive = await findDrive(broker, given.operand(0))
  const [, expected] = given.operands
  if (expected !== undefined) await requireAttached(broker, drive, expected)
  return withSessionAbout(context, drive, async session => {
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
  return withSessionAbout(context, drive, async (session, vm) => {
    await context.progress.during(`locking ${drive.name}`, lockDrive(session, drive))
    return outcomeOf(drive, `locked ${drive.name}, which stays attached to ${vm.name}`, vm.name)
  })
}

/** Runs `use` in a session with the VM that has the drive; an error of which only the code came names both. */
async function withSessionAbout(
  context: Context,
  drive: Drive,
  use: (session: ClientSession, vm: Vm) => Promise<Outcome>,
): Promise<Outcome> {
  return withSession(context, vmOf(drive), (session, vm) =>
    about(`${drive.name} in ${vm.name}`, () => use(session, vm)),
  )
}

export const detach: Action = async (context, given) => {
  const broker = await context.broker()
  const drive = await findDrive(broker, given.operand(0))
  if (!drive.attachedTo) return outcomeOf(drive, `${drive.name} was attached to no VM`)
  const vm = await broker.vm(drive.attachedTo)
  await lockDrivesOf(context, vm, given.flag('force'), drive.id)
  const detaching = broker.detachDrive(drive.id)
  const detached = await context.progress.during(`detaching ${drive.name} from ${vm.name}`, detaching)
  return outcomeOf(detached, `detached ${drive.name} from ${vm.name}`)
}

export const remove: Action = async (context, given) => {
  const broker = await context.broker()
  const drive = await findDrive(broker, given.operand(0))
  if (drive.attachedTo) {
    throw new MortarError('drive-attached', `${drive.name}, to ${await vmName(broker, drive.attachedTo)}`)
  }
  await broker.deleteDrive(drive.id)
  return { json: { deleted: drive.id }, text: `deleted ${drive.name}` }
}

/** Where a drive is attached the broker says; a key is to go to the VM that the person means. Fails with drive-detached. */
async function requireAttached(broker: BrokerApi, drive: Drive, nameOrId: string): Promise<void> {
  const vm = await findVm(broker, nameOrId)
  if (drive.attachedTo === vm.id) return
  const attachedTo = drive.attachedTo ? await vmName(broker, drive.attachedTo) : 'no VM'
  throw new MortarError('drive-detached', `${drive.name} is attached to ${attachedTo}, not to ${vm.name}`)
}

/** Name of a VM; its id when it is not among those that are listed. */
async function vmName(broker: BrokerApi, id: string): Promise<string> {
  return (await broker.vms()).find(vm => vm.id === id)?.name ?? id
}

/** Id of the VM that a drive is attached to. Fails with drive-detached. */
function vmOf(drive: Drive): string {
  if (!drive.attachedTo) throw new MortarError('drive-detached', `${drive.name} is attached to no VM`)
  return drive.attachedTo
}

/** `done`: what was done, for people. `vm`: name of the VM that has the drive. */
function outcomeOf(drive: Drive, done: string, vm = 'no VM'): Outcome {
  const pairs: [string, string][] = [
    ['name', drive.name],
    ['id', drive.id],
    ['size', size(drive.sizeBytes)],
    ['serial', drive.serial],
    ['attached to', vm],
    ['created', time(drive.createdAt)],
  ]
  return { json: { drive }, text: `${done}\n\n${facts(pairs)}` }
}
