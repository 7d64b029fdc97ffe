/** Drives from their owner's side: the key is derived here, goes through the session, and is nowhere else. SPEC §9.4 */

import type { Suite } from '../protocol/channel/suite.ts'
import type { Ready } from '../protocol/commands/command.ts'
import { driveFormat, driveList, driveLock, driveUnlock } from '../protocol/commands/drives.ts'
import type { Drive } from '../protocol/control/api.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { wipe } from '../protocol/core/secret.ts'
import type { ClientSession } from '../protocol/session.ts'
import type { BrokerApi } from './broker-api.ts'
import { openDriveNote, sealDriveNote } from './drive-note.ts'
import { newUuid } from './host.ts'
import { DRIVE_SALT_BYTES, type Identity } from './identity.ts'
import { pick } from './pick.ts'

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
  const { id, serial } = drive
  const call = await session.open(driveFormat, {
    drive: id,
    serial,
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
  const params = { drive: drive.id, serial: drive.serial, headerDigest, mountName: drive.name, readOnly }
  const call = await session.open(driveUnlock, params)
  await deliver(call, identity.driveKey(drive.id, salt))
  const mounted = await doneOf(call.received())
  if (mounted.readOnly !== readOnly) {
    throw new MortarError('drive-busy', `${drive.name} is mounted ${mounted.readOnly ? 'read-only' : 'for writing'}`)
  }
  return mounted
}

/** Unmounts and closes a drive; may stay attached. Fails with drive-busy, naming who uses it, and with drive-detached. */
export async function lockDrive(session: ClientSession, drive: Drive): Promise<void> {
  const call = await session.open(driveLock, { drive: drive.id, serial: drive.serial })
  for await (const _ of call.received()) {
    // all is said in the answer; this takes the end of the stream
  }
  const { locked, holders } = call.ready
  if (locked) return
  const who = holders.map(({ pid, user }) => `process ${pid} of ${user}`).join(', ')
  throw new MortarError('drive-busy', `${drive.name}, by ${who}`)
}

/** Locks those of the drives (`wanted`: ids) that are open in the session's VM. Fails with drive-busy. */
export async function lockOpenDrives(
  broker: BrokerApi,
  session: ClientSession,
  wanted: readonly string[],
): Promise<void> {
  const open = (await listDrives(session)).filter(({ state }) => state === 'open' || state === 'mounted')
  for (const drive of open.length === 0 ? [] : await broker.drives()) {
    if (!wanted.includes(drive.id) || !open.some(({ serial }) => serial === drive.serial)) continue
    try {
      await lockDrive(session, drive)
    } catch (thrown) {
      const { code, detail } = asMortarError(thrown)
      throw new MortarError(code, detail === '' ? drive.name : detail, { cause: thrown })
    }
  }
}

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
