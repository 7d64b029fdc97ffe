/**
 * Drives from their owner's side: the key is derived here, goes through the session, and is nowhere else. The serial by which the
 * VM finds a drive comes from the drive's id, whatever the broker says of it. SPEC §9.4
 */

import type { Suite } from '../../protocol/channel/suite.ts'
import type { Ready } from '../../protocol/commands/command.ts'
import { driveFormat, driveList, driveLock, driveUnlock } from '../../protocol/commands/drives.ts'
import type { Drive, Vm, VmState } from '../../protocol/control/api.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { BrokerApi } from '../broker/api.ts'
import { pick } from '../broker/pick.ts'
import { newUuid } from '../host/host.ts'
import { DRIVE_SALT_BYTES, type Identity } from '../identity/identity.ts'
import { openDriveNote, sealDriveNote } from './drive-note.ts'

/** LUKS2 labels and ext4 labels end here */
const LABEL_BYTES = 16

export interface MountedDrive {
  readonly mountPoint: string
  readonly sizeBytes: number
  readonly freeBytes: number
  /** as the VM's kernel has it */
  readonly readOnly: boolean
}

/** Makes an empty drive. `sizeBytes`: 16 MiB to 16 TiB. Fails with drive-exists, no-space, bad-request. */
export function createDrive(
  broker: BrokerApi,
  identity: Identity,
  suite: Suite,
  options: { name: string; sizeBytes: number },
): Promise<Drive> {
  const id = newUuid(suite)
  const note = sealDriveNote(identity, id, { salt: suite.randomBytes(DRIVE_SALT_BYTES), headerDigest: null })
  return broker.createDrive({ id, ...options, note })
}

/**
 * Formats a drive that is attached to the session's VM, and keeps the digest of its header in the note. Returns the drive
 * with its new note. Fails with drive-not-empty unless `erase`, drive-detached, drive-note.
 */
export async function formatDrive(
  broker: BrokerApi,
  identity: Identity,
  session: ClientSession,
  drive: Drive,
  options: { erase: boolean },
): Promise<Drive> {
  const { salt } = openDriveNote(identity, drive.id, drive.note)
  const { id } = drive
  const call = await session.open(driveFormat, {
    drive: id,
    serial: driveSerial(id),
    label: drive.name.slice(0, LABEL_BYTES),
    erase: options.erase,
  })
  await deliver(call, identity.driveKey(id, salt))
  const { headerDigest } = await doneOf(call.received())
  const note = sealDriveNote(identity, id, { salt, headerDigest })
  await broker.putDriveNote(id, note)
  return { ...drive, note }
}

/**
 * Unlocks and mounts a drive below /drives, under its name. Fails with drive-blank before it is formatted, drive-header when
 * the host changed the header, drive-key-wrong, drive-detached, drive-note, drive-busy when it is mounted in another way,
 * drive-unprepared, drive-people.
 */
export async function unlockDrive(
  identity: Identity,
  session: ClientSession,
  drive: Drive,
  options: { readOnly: boolean },
): Promise<MountedDrive> {
  const { salt, headerDigest } = openDriveNote(identity, drive.id, drive.note)
  if (!headerDigest) throw new MortarError('drive-blank', drive.name)
  const { readOnly } = options
  const params = { drive: drive.id, serial: driveSerial(drive.id), headerDigest, mountName: drive.name, readOnly }
  const call = await session.open(driveUnlock, params)
  await deliver(call, identity.driveKey(drive.id, salt))
  const mounted = await doneOf(call.received())
  if (mounted.readOnly !== readOnly) {
    throw new MortarError('drive-busy', `${drive.name} is mounted ${mounted.readOnly ? 'read-only' : 'for writing'}`)
  }
  return mounted
}

/** Unmounts and closes a drive; may stay attached. Fails with drive-busy, naming who uses it, and with drive-detached. */
export async function lockDrive(session: ClientSession, drive: Pick<Drive, 'id'>): Promise<void> {
  const call = await session.open(driveLock, { drive: drive.id, serial: driveSerial(drive.id) })
  for await (const _ of call.received()) {
    // all is said in the answer; this takes the end of the stream
  }
  const { locked, holders } = call.ready
  if (locked) return
  const who = holders.map(({ pid, user }) => `process ${pid} of ${user}`).join(', ')
  throw new MortarError('drive-busy', `used by ${who}`)
}

/**
 * Locks the drives that the session's VM says are open: all, or the one of that id (`only`). Returns their names, or the serial of
 * one that the broker does not show. Fails with drive-busy.
 */
export async function lockOpenDrives(broker: BrokerApi, session: ClientSession, only?: string): Promise<string[]> {
  const open = (await listDrives(session)).filter(({ state }) => state === 'open' || state === 'mounted')
  const wanted = open.filter(({ serial }) => only === undefined || serial === driveSerial(only))
  const shown = wanted.length === 0 ? [] : await broker.drives()
  const locked: string[] = []
  for (const { serial } of wanted) {
    const drive = shown.find(({ id }) => driveSerial(id) === serial)
    const name = drive?.name ?? serial
    try {
      await lockDrive(session, { id: drive?.id ?? driveIdOf(serial) })
    } catch (thrown) {
      const { code, detail } = asMortarError(thrown)
      throw new MortarError(code, detail === '' ? name : `${name}: ${detail}`, { cause: thrown })
    }
    locked.push(name)
  }
  return locked
}

/** there is nobody in a VM to ask in these states */
const OFF: readonly VmState[] = ['defined', 'stopped', 'failed', 'destroyed']

/** Whether nobody in the VM can be asked which drives are open, as far as the broker tells the truth. */
export const isOff = (vm: Vm): boolean => OFF.includes(vm.state) || vm.agent === null

/** An id with that serial: the agent goes by the serial, and a broker that hides a drive hides the rest of its id. */
export const driveIdOf = (serial: string) =>
  `${serial.slice(0, 8)}-${serial.slice(8, 12)}-${serial.slice(12, 16)}-${serial.slice(16, 20)}-${'0'.repeat(12)}`

/** Sends a key, which is wiped whether it could be sent or not. */
async function deliver(call: { sendSecret(secret: Uint8Array): Promise<void> }, key: Uint8Array): Promise<void> {
  try {
    await call.sendSecret(key)
  } finally {
    wipe(key)
  }
}

/** Drives as the guest sees them, by serial, with their state. */
export async function listDrives(session: ClientSession): Promise<Ready<typeof driveList>['drives']> {
  const call = await session.open(driveList, {})
  for await (const _ of call.received()) {
    // all is said in the answer; this takes the end of the stream
  }
  return call.ready.drives
}

/** The drive of that name or id, the user's own first. Fails with not-found, or bad-request when a name is not unique. */
export async function findDrive(broker: BrokerApi, nameOrId: string): Promise<Drive> {
  return pick('drive', await broker.drives(), nameOrId, broker.user)
}

/** The body of the one `done` message. Fails with truncated when the stream ends without it. */
async function doneOf<Body>(
  received: AsyncIterable<{ type: 'data' } | { type: 'message'; name: 'done'; body: Body }>,
): Promise<Body> {
  let done: Body | undefined
  for await (const item of received) if (item.type === 'message') done = item.body
  if (done === undefined) throw new MortarError('truncated', 'the agent did not say that it is done')
  return done
}
