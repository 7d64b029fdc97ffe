/** How this program is started again, for a ProxyCommand: as a binary, or as Node with a script. */
import { resolve } from 'node:path'
import { isSea } from 'node:sea'

export function ownCommand(): string[] {
  return isSea() ? [process.execPath] : [process.execPath, resolve(process.argv[1] ?? '')]
}
