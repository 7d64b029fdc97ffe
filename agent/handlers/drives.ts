/** drives: format, unlock, lock and list the LUKS2 volumes of the owner. The key comes as the stream's one secret. SPEC §9.4 */
import type { Call } from '../../protocol/call.ts'
import type { driveFormat as formatCommand, driveUnlock as unlockCommand } from '../../protocol/commands/drives.ts'
import { wipe } from '../../protocol/core/secret.ts'
import { visibleDrives } from '../../protocol/rights.ts'
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'

/**
 * The drive's key. The channel's key has moved on behind it; the one before lies in memory that V8 gives back when it
 * collects garbage, which an agent with little to do may not do for hours, so it does now.
 */
async function takeKey(call: { secret(): Promise<Uint8Array> }): Promise<Uint8Array> {
  try {
    return await call.secret()
  } finally {
    // there when the program was built with --expose-gc
    globalThis.gc?.()
  }
}

export const driveFormat: Handlers<Guest>['drive-format'] = async (call, guest) => {
  const { drive, serial, label, erase } = call.params
  const device = await guest.drives.find(serial)
  await guest.drives.requireFormattable(device, erase)
  await withKey(call, guest, async key => {
    const headerDigest = await guest.drives.format(device, { id: drive, label, erase, key, signal: call.signal })
    guest.log('drive.formatted')
    call.post('done', { headerDigest })
  })
}

export const driveUnlock: Handlers<Guest>['drive-unlock'] = async (call, guest) => {
  const { drive, serial, headerDigest, mountName, readOnly } = call.params
  const device = await guest.drives.find(serial)
  await withKey(call, guest, async key => {
    const { signal } = call
    const mounted = await guest.drives.unlock(device, { id: drive, headerDigest, mountName, readOnly, key, signal })
    guest.log('drive.unlocked')
    call.post('done', mounted)
  })
}

export const driveLock: Handlers<Guest>['drive-lock'] = async (call, guest) => {
  const holders = await guest.drives.lock(call.params.serial, call.signal)
  if (holders.length === 0) guest.log('drive.locked')
  call.accept({
    locked: holders.length === 0,
    holders: holders.map(({ pid, uid }) => ({ pid, user: guest.accounts.nameOf(uid) })),
  })
}

export const driveList: Handlers<Guest>['drive-list'] = async (call, guest) => {
  const drives = await guest.drives.list()
  call.accept({ drives: visibleDrives(call.rights, drives) })
}

type CallWithKey = Pick<Call<typeof formatCommand | typeof unlockCommand>, 'params' | 'rights' | 'accept' | 'secret'>

/** Accepts the call, takes the key of its drive for `use`, and wipes it. Fails with rate-limited, before it accepts, after too many failures. */
async function withKey(call: CallWithKey, guest: Guest, use: (key: Uint8Array) => Promise<void>): Promise<void> {
  const succeeded = guest.secretAttempts.begin(call.params.serial, call.rights)
  call.accept({})
  const key = await takeKey(call)
  try {
    await use(key)
    succeeded()
  } finally {
    wipe(key)
  }
}
