/** Before a VM is stopped or deleted its drives are locked, and the VM itself says so; the page connects to it for that. */
import type { Vm } from '../../protocol/control/api.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { isOff, lockOpenDrives } from '../drives/drives.ts'
import { Unconfirmed } from '../errors/unconfirmed.ts'
import { ownGrant } from '../grants/read-grants.ts'
import { connect } from './sessions.ts'
import { current, type Login } from './state.ts'

export type Ending = 'stop' | 'delete'

const isMine = (vm: Vm, { broker }: Login) => vm.owner === broker.user

/** Whether the broker would do it for this person: the owner, an administrator, or who was granted `power`. */
export function mayEnd(vm: Vm, login: Login): boolean {
  if (isMine(vm, login) || login.role === 'administrator') return true
  try {
    return ownGrant(login.identity, vm, Date.now()).grant.permissions.includes('power')
  } catch {
    return false
  }
}

/** What locking will come to, for the question that goes before it. */
export function lockingOf(vm: Vm, login: Login): string {
  if (!isMine(vm, login)) return 'Drives that its owner has open there are not locked first; only the owner could.'
  if (isOff(vm)) return `The broker says that nothing runs in ${vm.name}, so nobody is asked to lock drives.`
  return `It is done only once ${vm.name} says that its drives are locked.`
}

/** Locks what is open, and says so. Fails with unconfirmed when the VM did not say so, and with drive-busy when a drive is in use. */
export async function lockFirst(vm: Vm, login: Login, before: Ending): Promise<string> {
  if (!isMine(vm, login) || isOff(vm)) return ''
  try {
    await connect(vm)
    const connection = current().connections[vm.id]
    if (connection?.stage !== 'open') {
      throw (connection?.stage === 'ended' && connection.error) || new MortarError('connection-lost')
    }
    const locked = await lockOpenDrives(login.broker, connection.session)
    return locked.length === 0
      ? `${vm.name} says that no drive was open.`
      : `${vm.name} says that it locked ${locked.join(', ')}.`
  } catch (thrown) {
    const error = asMortarError(thrown)
    if (error.code === 'drive-busy') throw error
    const detail = `${vm.name} did not say that its drives are locked, and so the broker was not told to ${before} it: ${error.message}`
    throw new Unconfirmed(
      detail,
      'Try again when the VM answers; whoever goes on all the same loses what open drives have not saved yet',
      { drivesLocked: null },
      error,
    )
  }
}
