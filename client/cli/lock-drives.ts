/** Drives that are open in a VM are locked before it or they are taken away; how far that is so is said on the VM's word alone. */
import type { Vm } from '../../protocol/control/api.ts'
import { asMortarError } from '../../protocol/core/errors.ts'
import { isOff, lockOpenDrives } from '../drives/drives.ts'
import { Unconfirmed } from '../errors/unconfirmed.ts'
import { within } from '../host/clock.ts'
import type { Context } from './context.ts'
import { withSessionOf } from './session.ts'

/** ms in which a VM has closed its drives, if it ever will */
const LOCKING_MS = 90_000

export interface Locked {
  /** who says that no drive is open there; null: nobody */
  readonly word: 'vm' | 'broker' | null
  /** names of the drives that were open, on the VM's word; null: it was not asked */
  readonly locked: readonly string[] | null
  /** for people */
  readonly says: string
}

export interface LockOptions {
  /** what it is done for: `stop lab` */
  readonly before: string
  /** goes on although the VM did not say that they are locked */
  readonly force: boolean
  /** id of the one drive that is meant; all of the VM's unless given */
  readonly only?: string
}

/** Fails with unconfirmed when the VM does not say so, and with drive-busy when it says that a drive is in use; unless `force`. */
export async function lockDrivesOf(context: Context, vm: Vm, { before, force, only }: LockOptions): Promise<Locked> {
  if (vm.owner !== (await context.broker()).user) {
    return {
      word: null,
      locked: null,
      says: `Drives that ${vm.name}’s owner may have open were not locked: only the owner can`,
    }
  }
  if (isOff(vm)) {
    const off = vm.agent ? `is ${vm.state}` : 'has not enrolled'
    return {
      word: 'broker',
      locked: null,
      says: `That no drive is open in ${vm.name} is the broker’s word, who says that it ${off}`,
    }
  }
  try {
    const { clock } = await context.host()
    const broker = await context.broker()
    const locking = withSessionOf(context, vm, session =>
      context.progress.during('locking drives that are open', lockOpenDrives(broker, session, only)),
    )
    const locked = await within(clock, LOCKING_MS, `locking drives in ${vm.name}`, locking)
    return { word: 'vm', locked, says: saysOf(vm.name, locked) }
  } catch (thrown) {
    const error = asMortarError(thrown)
    if (force) {
      const says = `Whether drives are open in ${vm.name} is not known, for it did not say that it locked them: ${error.message}`
      context.progress.line(says)
      return { word: null, locked: null, says }
    }
    if (error.code === 'drive-busy') throw error
    throw new Unconfirmed(
      `${vm.name} did not say that its drives are locked, and so it was not told to ${before}: ${error.message}`,
      'Repeat it when the VM answers; --force goes on without, and what was written to open drives and not saved yet is lost then',
      { drivesLocked: null },
      error,
    )
  }
}

const saysOf = (name: string, locked: readonly string[]) =>
  locked.length === 0 ? `${name} says that no drive was open` : `${name} says that it locked ${locked.join(', ')}`
