/** A drive that was unplugged is gone when the VM no longer sees it; that the broker says so is not enough. SPEC §9.4 */
import type { Drive, Vm } from '../../protocol/control/api.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { BrokerApi } from '../broker/api.ts'
import { Unconfirmed } from '../errors/unconfirmed.ts'
import { sleep } from '../host/clock.ts'
import { isOff, listDrives } from './drives.ts'

/** ms in which a guest that let go of a drive sees it no more */
const GONE_MS = 10_000
const LOOK_MS = 500

export interface Detaching {
  readonly broker: Pick<BrokerApi, 'detachDrive'>
  /** with the VM that has the drive; null: it cannot be asked */
  readonly session: ClientSession | null
  readonly clock: Clock
}

/**
 * Has the broker unplug a drive, and asks the VM. Returns who says that it is done. `saidLocked`: the VM said that the drive is closed there.
 * Fails with unconfirmed when a VM that runs did not say that it is gone.
 */
export async function detachFrom(
  { broker, session, clock }: Detaching,
  drive: Drive,
  vm: Vm,
  saidLocked: boolean,
): Promise<string> {
  await broker.detachDrive(drive.id)
  if (session) {
    await requireGone(session, clock, drive, vm.name, saidLocked)
    return `${vm.name} says that ${drive.name} is no longer plugged in.`
  }
  if (isOff(vm))
    return `The broker says that it detached ${drive.name} from ${vm.name}, and that nothing runs in ${vm.name}.`
  return unconfirmedGone(drive, vm.name, new MortarError('connection-lost', vm.name), saidLocked)
}

/** Waits until the VM (`name`) no longer sees a drive that was detached. `saidLocked`: it said that it is locked. Fails with unconfirmed. */
export async function requireGone(
  session: ClientSession,
  clock: Clock,
  drive: Drive,
  name: string,
  saidLocked = true,
): Promise<void> {
  const giveUp = clock.now() + GONE_MS
  try {
    while ((await listDrives(session)).some(({ serial }) => serial === driveSerial(drive.id))) {
      if (clock.now() >= giveUp) throw new MortarError('drive-attached', `${name} still sees ${drive.name}`)
      await sleep(LOOK_MS)
    }
  } catch (thrown) {
    unconfirmedGone(drive, name, thrown, saidLocked)
  }
}

/** The error for a VM that did not say that a drive is gone, and perhaps not that it is locked either. Throws. */
export function unconfirmedGone(drive: Drive, name: string, thrown: unknown, saidLocked = true): never {
  const error = asMortarError(thrown)
  if (error instanceof Unconfirmed) throw error
  const said = saidLocked
    ? `said that ${drive.name} is locked, and not that it is unplugged`
    : `said neither that ${drive.name} is locked nor that it is unplugged`
  throw new Unconfirmed(
    `${name} ${said}: ${error.message}`,
    saidLocked
      ? 'It is closed; the broker may still have it plugged in. Repeat it, or stop the VM'
      : 'That it is detached is the broker’s word. Connect to the VM and look, or stop the VM',
    { drivesLocked: saidLocked ? true : null, detachedInVm: error.code === 'drive-attached' ? false : null },
    error,
  )
}
