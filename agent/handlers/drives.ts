/** drives: format, unlock, lock and list the LUKS2 volumes of the owner. The key comes as the stream's one secret. SPEC §9.4 */
import { wipe } from '../../protocol/core/secret.ts'
import { visibleDrives } from '../../protocol/rights.ts'
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { findUser } from '../guest/users.ts'

export const driveFormat: Handlers<Guest>['drive-format'] = async (call, guest) => {
  const { drive, serial, label, erase } = call.params
  const device = await guest.drives.find(serial)
  await guest.drives.requireFormattable(device, erase)
  call.accept({})
  const key = await call.secret()
  try {
    const headerDigest = await guest.drives.format(device, { id: drive, label, erase, key, signal: call.signal })
    guest.log('drive.formatted', { drive })
    call.post('done', { headerDigest })
  } finally {
    wipe(key)
  }
}

export const driveUnlock: Handlers<Guest>['drive-unlock'] = async (call, guest) => {
  const { drive, serial, headerDigest, mountName, readOnly } = call.params
  const user = findUser(call.params.user ?? guest.config.defaultUser)
  const device = await guest.drives.find(serial)
  call.accept({})
  const key = await call.secret()
  try {
    const { signal } = call
    const mounted = await guest.drives.unlock(device, { headerDigest, mountName, readOnly, user, key, signal })
    guest.log('drive.unlocked', { drive })
    call.post('done', mounted)
  } finally {
    wipe(key)
  }
}

export const driveLock: Handlers<Guest>['drive-lock'] = async (call, guest) => {
  await guest.drives.lock(call.params.serial, call.signal)
  guest.log('drive.locked', { drive: call.params.drive })
  call.accept({})
}

export const driveList: Handlers<Guest>['drive-list'] = async (call, guest) => {
  const drives = await guest.drives.list()
  call.accept({ drives: visibleDrives(call.rights, drives) })
}
