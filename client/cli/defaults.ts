/** Where broker and identity are unless the command line or the environment says otherwise. */
import { homedir } from 'node:os'
import { join } from 'node:path'

export const DEFAULT_BROKER = 'http://127.0.0.1:7766'
export const DEFAULT_IDENTITY = join(homedir(), '.config', 'mortar', 'identity')
