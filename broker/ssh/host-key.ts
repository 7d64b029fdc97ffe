/** The jump host's own key, made by ssh-keygen at first use: loading ssh2 for it would cost the idle broker 20 MiB. */
import { execFile } from 'node:child_process'
import { existsSync, readFileSync, rmSync } from 'node:fs'
import { promisify } from 'node:util'
import { MortarError } from '../../protocol/core/errors.ts'

/** Returns the public line, type and base64. `path`: private key file, the public one beside it. Fails with bad-config. */
export async function hostKey(path: string): Promise<string> {
  const publicPath = `${path}.pub`
  if (!existsSync(path) || !existsSync(publicPath)) {
    // one without the other was left by an interrupted start
    for (const part of [path, publicPath]) rmSync(part, { force: true })
    try {
      await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', 'mortar', '-f', path])
    } catch (cause) {
      const missing = (cause as NodeJS.ErrnoException).code === 'ENOENT'
      const why = missing ? 'ssh-keygen is missing (apt install openssh-client)' : (cause as Error).message.trim()
      throw new MortarError('bad-config', `ssh_listen needs a host key: ${why}; or set ssh_listen = ""`, { cause })
    }
  }
  return readFileSync(publicPath, 'utf8').trim().split(' ').slice(0, 2).join(' ')
}
