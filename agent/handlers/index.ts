/** HANDLERS: the list. One row for each row of COMMANDS. */
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { driveFormat, driveList, driveLock, driveUnlock } from './drives.ts'
import { exec } from './exec.ts'
import { execList } from './exec-list.ts'
import { grantList, grantRevoke } from './grants.ts'
import { info } from './info.ts'
import { ssh } from './ssh.ts'
import { terminal } from './terminal.ts'

export const HANDLERS: Handlers<Guest> = {
  info,
  exec,
  'exec-list': execList,
  terminal,
  'drive-format': driveFormat,
  'drive-unlock': driveUnlock,
  'drive-lock': driveLock,
  'drive-list': driveList,
  ssh,
  'grant-revoke': grantRevoke,
  'grant-list': grantList,
}
