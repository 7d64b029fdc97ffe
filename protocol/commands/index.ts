/** COMMANDS: the list. A new command is a file beside this one and a row here; the agent's HANDLERS have the same keys. */
import type { Command } from './command.ts'
import { driveFormat, driveList, driveLock, driveUnlock } from './drives.ts'
import { exec, execList } from './exec.ts'
import { grantList, grantRevoke } from './grants.ts'
import { info } from './info.ts'
import { ssh } from './ssh.ts'
import { terminal } from './terminal.ts'

export const COMMANDS = {
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
} as const satisfies Record<string, Command>

export type CommandName = keyof typeof COMMANDS
