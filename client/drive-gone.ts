/** A drive that was unplugged is gone when the VM no longer sees it; that the broker says so is not enough. SPEC §9.4 */
import type { Drive } from '../protocol/control/api.ts'
import { driveSerial } from '../protocol/control/drive-serial.ts'
import type { Clock } from '../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import type { ClientSession } from '../protocol/session.ts'
import { sleep } from './clock.ts'
import { listDrives } from './drives.ts'
import { Unconfirmed } from './unconfirmed.ts'

/** ms in which a guest that let go of a drive sees it no more */
const GONE_MS = 10_000
const LOOK_MS = 500

/** Waits until the VM (`name`) no longer sees a drive that was locked there and detached. Fails with unconfirmed. */
export async function requireGone(session: ClientSession, clock: Clock, drive: Drive, name: string): Promise<void> {
  const giveUp = clock.now() + GONE_MS
  try {
    while ((await listDrives(session)).some(({ serial }) => serial === driveSerial(drive.id))) {
      if (clock.now() >= giveUp) throw new MortarError('drive-attached', `${name} still sees ${drive.name}`)
      await sleep(LOOK_MS)
    }
  } catch (thrown) {
    unconfirmedGone(drive, name, thrown)
  }
}

/** The error for a VM that did not say that a drive is gone. Throws. */
export function unconfirmedGone(drive: Drive, name: string, thrown: unknown): never {
  const error = asMortarError(thrown)
  if (error instanceof Unconfirmed) throw error
  throw new Unconfirmed(
    `${name} said that ${drive.name} is locked, and not that it is unplugged: ${error.message}`,
    'It is closed; the broker may still have it plugged in. Repeat it, or stop the VM',
    { drivesLocked: true, detachedInVm: error.code === 'drive-attached' ? false : null },
    error,
  )
}
