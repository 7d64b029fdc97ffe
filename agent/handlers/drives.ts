/** drives: format, unlock, lock and list the LUKS2 volumes of the owner. The key comes as the stream's one secret. SPEC §9.4 */
import type { Call } from '../../protocol/call.ts'
import type { driveFormat as formatCommand, driveUnlock as unlockCommand } from '../../protocol/commands/drives.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { wipe } from '../../protocol/core/secret.ts'
import { type Rights, visibleDrives } from '../../protocol/rights.ts'
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { Shares } from './shares.ts'

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

/** of one caller, in all sessions */
const calls = new Shares(LIMITS.driveCalls, 'calls of drives')

/** Runs a call of drives as one of its caller's. Fails with limit-exceeded. */
const counted = ({ rights }: { rights: Rights }, { drives }: Guest, run: () => Promise<void>): Promise<void> =>
  calls.hold(drives, rights.grantee, run)

const isOwners = ({ rights }: { rights: Rights }) => rights.grantee === null

export const driveFormat: Handlers<Guest>['drive-format'] = (call, guest) =>
  counted(call, guest, async () => {
    const { drive: id, serial, label, erase } = call.params
    const { signal } = call
    const device = await guest.drives.find(serial, signal)
    await guest.drives.requireFormattable(device, erase)
    await withKey(call, guest, async key => {
      const options = { id, label, erase, key, signal, isOwner: isOwners(call) }
      const headerDigest = await guest.drives.format(device, options)
      guest.log('drive.formatted')
      call.post('done', { headerDigest })
    })
  })

export const driveUnlock: Handlers<Guest>['drive-unlock'] = (call, guest) =>
  counted(call, guest, async () => {
    const { drive: id, serial, headerDigest, mountName, readOnly } = call.params
    const { signal } = call
    const device = await guest.drives.find(serial, signal)
    await withKey(call, guest, async key => {
      const options = { id, headerDigest, mountName, readOnly, key, signal, isOwner: isOwners(call) }
      const mounted = await guest.drives.unlock(device, options)
      guest.log('drive.unlocked')
      call.post('done', mounted)
    })
  })

export const driveLock: Handlers<Guest>['drive-lock'] = (call, guest) =>
  counted(call, guest, async () => {
    const holders = await guest.drives.lock(call.params.serial, call.signal, isOwners(call))
    if (holders.length === 0) guest.log('drive.locked')
    call.accept({
      locked: holders.length === 0,
      holders: holders.map(({ pid, uid }) => ({ pid, user: guest.accounts.nameOf(uid) })),
    })
  })

export const driveList: Handlers<Guest>['drive-list'] = (call, guest) =>
  counted(call, guest, async () => {
    call.accept({ drives: await guest.drives.list(devices => visibleDrives(call.rights, devices)) })
  })

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
