/** `mortar drive`: makes, attaches, unlocks, locks, detaches and deletes drives. */
import { type Drive, driveCreate, type Vm } from '../../protocol/control/api.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { BrokerApi } from '../broker/api.ts'
import { requireGone, unconfirmedGone } from '../drives/drive-gone.ts'
import { createDrive, driveIdOf, findDrive, formatDrive, listDrives, lockDrive, unlockDrive } from '../drives/drives.ts'
import { about } from '../errors/name-error.ts'
import { ownGrant } from '../grants/read-grants.ts'
import { findVm, UUID } from '../vms/vm.ts'
import { confirm } from './confirm.ts'
import { type Context, parseSize } from './context.ts'
import { type Locked, lockDrivesOf } from './lock-drives.ts'
import { facts, size, table, time } from './output.ts'
import { ownerColumn } from './owner-column.ts'
import { withSession, withSessionOf } from './session.ts'
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
  return outcomeOf(drive, `The broker says that it made ${drive.name}`, { word: 'broker' })
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
  const says = `The broker says that it attached ${drive.name} to ${vm.name}, where it is closed until you unlock it`
  return outcomeOf(attached, says, { word: 'broker', vm: vm.name })
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
  const broker = await context.broker()
  const [nameOrId = '', named] = given.operands
  const vm = named === undefined ? null : await findVm(broker, named)
  if (vm && vm.owner !== broker.user) return lockGranted(context, vm, nameOrId)
  const drive = await findDrive(broker, nameOrId)
  // where a drive is the broker says; who names a VM asks that one
  const holder = vm?.id ?? vmOf(drive)
  return withSessionAbout(context, { ...drive, attachedTo: holder }, async (session, vm) => {
    await context.progress.during(`locking ${drive.name}`, lockDrive(session, drive))
    return outcomeOf(drive, `${vm.name} says that ${drive.name} is locked`, { word: 'vm', vm: vm.name })
  })
}

/**
 * A grantee's lock: the broker shows grantees no drive, so the drives are those of the grant, by their ids, or by the name under which the
 * VM has them mounted. Fails with not-found.
 */
async function lockGranted(context: Context, vm: Vm, nameOrId: string): Promise<Outcome> {
  const { clock } = await context.host()
  const { drives: ids } = ownGrant(await context.identity(), vm, clock.now()).grant
  const locking = async (session: ClientSession) => {
    const mounted = (await listDrives(session)).find(({ mountPoint }) => mountPoint === `/drives/${nameOrId}`)
    const wanted = mounted?.serial ?? (UUID.test(nameOrId) ? driveSerial(nameOrId) : '')
    const held = ids === null ? driveIdOf(wanted) : ids.find(id => driveSerial(id) === wanted)
    if (wanted === '' || held === undefined) {
      const named = ids === null ? 'name it by its id where it is not mounted' : `yours are ${ids.join(', ') || 'none'}`
      throw new MortarError('not-found', `drive ${nameOrId} in ${vm.name}; ${named}`)
    }
    const id = UUID.test(nameOrId) ? nameOrId : held
    await context.progress.during(`locking ${nameOrId}`, lockDrive(session, { id }))
    return { json: { drive: { id }, word: 'vm' }, text: `${vm.name} says that ${nameOrId} is locked.` }
  }
  return withSessionOf(context, vm, session => about(`${nameOrId} in ${vm.name}`, () => locking(session)), {
    whose: 'granted too',
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
  const [, named] = given.operands
  const holder = named === undefined ? drive.attachedTo : (await findVm(broker, named)).id
  if (!holder) {
    const says = `The broker says that ${drive.name} is attached to no VM. To have a VM say so, name it`
    return outcomeOf(drive, says, { word: 'broker' })
  }
  const vm = await broker.vm(holder)
  const before = `let go of ${drive.name}`
  const locked = await lockDrivesOf(context, vm, { before, force: given.flag('force'), only: drive.id })
  const detaching = drive.attachedTo === holder ? broker.detachDrive(drive.id) : Promise.resolve(drive)
  const detached = await context.progress.during(`detaching ${drive.name} from ${vm.name}`, detaching)
  if (locked.word !== 'vm') {
    const says = `The broker says that it detached ${drive.name} from ${vm.name}. ${locked.says}`
    return outcomeOf(detached, says, { word: 'broker', drives: locked })
  }
  const { clock } = await context.host()
  const asking = withSessionOf(context, vm, session => requireGone(session, clock, drive, vm.name))
  await context.progress.during(
    `asking ${vm.name}`,
    asking.catch(thrown => unconfirmedGone(drive, vm.name, thrown)),
  )
  const says = `${vm.name} says that ${drive.name} is no longer plugged in. ${locked.says}`
  return outcomeOf(detached, says, { word: 'vm', drives: locked })
}

export const remove: Action = async (context, given) => {
  const broker = await context.broker()
  const drive = await findDrive(broker, given.operand(0))
  if (drive.attachedTo) {
    throw new MortarError('drive-attached', `${drive.name}, to ${await vmName(broker, drive.attachedTo)}`)
  }
  await confirm(
    context,
    given,
    `Delete the drive ${drive.name} (${drive.id})? The broker is told to destroy what is on it, for good.`,
  )
  await broker.deleteDrive(drive.id)
  return { json: { deleted: drive.id, word: 'broker' }, text: `The broker says that it deleted ${drive.name}.` }
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
  if (!drive.attachedTo)
    throw new MortarError('drive-detached', `the broker says that ${drive.name} is attached to no VM`)
  return drive.attachedTo
}

interface Told {
  /** who says that it is done */
  readonly word: 'vm' | 'broker'
  /** name of the VM that has the drive */
  readonly vm?: string
  readonly drives?: Locked
}

/** `says`: what was done, and who says so, for people. */
function outcomeOf(drive: Drive, says: string, { word, vm = 'no VM', drives }: Told): Outcome {
  const pairs: [string, string][] = [
    ['name', drive.name],
    ['id', drive.id],
    ['size', size(drive.sizeBytes)],
    ['serial', driveSerial(drive.id)],
    ['attached to', vm],
    ['created', time(drive.createdAt)],
  ]
  const locked = drives ? { drives: { word: drives.word, locked: drives.locked } } : {}
  return { json: { drive, word, ...locked }, text: `${says}.\n\n${facts(pairs)}` }
}
