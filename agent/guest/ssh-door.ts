/** One person's way in by SSH: host key, configuration and keys that only this person's sshd can read, and its connections. SPEC §9.5 */
import { execFile } from 'node:child_process'
import { chmodSync, chownSync, existsSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { replaceFile } from '../process/replace-file.ts'
import type { Runner, Running } from './runner.ts'
import type { User } from './users.ts'

export const SSHD = '/usr/sbin/sshd'
const KEYS = 'authorized_keys'
const KEYGEN_MS = 30_000

/** A public key that may log in. */
export interface DeliveredKey {
  /** type and base64, as in authorized_keys */
  readonly key: string
  /** ms since 1970 */
  readonly expires: number
}

export interface SshDoorOptions {
  /** where each person has a folder */
  readonly folder: string
  readonly user: User
  /** null: the owner */
  readonly grantee: string | null
  onClosed(): void
}

export class SshDoor {
  readonly #runner: Runner
  readonly #options: SshDoorOptions
  readonly #folder: string
  #keys: readonly DeliveredKey[] = []
  /** what ends a connection */
  readonly #connections = new Set<() => void>()

  constructor(runner: Runner, options: SshDoorOptions) {
    this.#runner = runner
    this.#options = options
    this.#folder = join(options.folder, options.user.name)
  }

  /** Removes the keys that are in the folders of all people. */
  static forgetKeys(folder: string): void {
    mkdirSync(folder, { recursive: true })
    chmodSync(folder, 0o711)
    for (const name of readdirSync(folder)) rmSync(join(folder, name, KEYS), { force: true })
  }

  /** True while some key has not expired. */
  get isOpen(): boolean {
    return this.#keys.some(({ expires }) => expires > Date.now())
  }

  /** Lets a key log in until `expires`, in ms since 1970. Fails with limit-exceeded. */
  admit(key: string, expires: number): void {
    const others = this.#keys.filter(held => held.key !== key && held.expires > Date.now())
    if (others.length >= LIMITS.sshKeysEach) throw new MortarError('limit-exceeded', `${LIMITS.sshKeysEach} SSH keys`)
    const keys = [...others, { key, expires }]
    const { user, grantee } = this.#options
    writeFor(user, join(this.#folder, KEYS), authorizedKeys(keys, grantee !== null))
    this.#keys = keys
  }

  /** Forgets all keys and ends all connections. */
  close(): void {
    this.#options.onClosed()
    this.#keys = []
    for (const end of [...this.#connections]) end()
    rmSync(join(this.#folder, KEYS), { force: true })
  }

  /** Serves one connection; resolves when either side has ended it. */
  async serve(transport: Transport): Promise<void> {
    const running = await this.#runner.run({
      argv: [SSHD, '-i', '-f', join(this.#folder, 'sshd_config')],
      user: this.#options.user,
      grantee: this.#options.grantee,
      cwd: '/',
      env: {},
    })
    running.exited.catch(() => undefined)
    running.stderr.on('error', () => {}).resume()
    const end = () => {
      running.kill()
      // what sshd forked holds the pipes, and ends with its input
      transport.close()
    }
    this.#connections.add(end)
    try {
      void feed(transport, running).catch(() => running.kill())
      for await (const chunk of running.stdout) await sendAll(transport, chunk as Uint8Array)
    } finally {
      this.#connections.delete(end)
      running.kill()
    }
  }
}

/** Makes a person's folder with host key and configuration, unless this boot has it. Resolves with the public host key. */
export async function makeHostKey(parent: string, user: User): Promise<string> {
  const folder = join(parent, user.name)
  mkdirSync(folder, { recursive: true, mode: 0o700 })
  const path = join(folder, 'host_key')
  if (!existsSync(`${path}.pub`)) {
    rmSync(path, { force: true })
    await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', path], {
      timeout: KEYGEN_MS,
    })
  }
  chownSync(path, 0, user.gid)
  // sshd minds who can read a key only when the key is the reader's own
  chmodSync(path, 0o640)
  writeFor(user, join(folder, 'sshd_config'), sshdConfig(folder, user.name))
  chownSync(folder, 0, user.gid)
  chmodSync(folder, 0o750)
  return readFileSync(`${path}.pub`, 'utf8').trim().split(' ').slice(0, 2).join(' ')
}

/** Replaces a file that the user may read and root may write. */
function writeFor(user: User, path: string, content: string): void {
  replaceFile(path, content, { mode: 0o640, gid: user.gid })
}

/** Lines of authorized_keys(5). A grantee's forwards would lead past the targets of the grant. */
export function authorizedKeys(keys: readonly DeliveredKey[], isGrantee: boolean): string {
  const forwarding = isGrantee ? ',no-port-forwarding' : ''
  return keys.map(({ key, expires }) => `expiry-time="${sshTime(expires)}"${forwarding} ${key}\n`).join('')
}

/** YYYYMMDDHHMMSSZ */
function sshTime(ms: number): string {
  return `${new Date(ms).toISOString().replace(/\D/g, '').slice(0, 14)}Z`
}

/** sshd is not root here: it can become nobody else, and asks no PAM. */
function sshdConfig(folder: string, user: string): string {
  return `HostKey ${folder}/host_key
AuthorizedKeysFile ${folder}/${KEYS}
AllowUsers ${user}
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
UsePAM no
AllowTcpForwarding yes
AllowStreamLocalForwarding yes
GatewayPorts no
X11Forwarding no
PermitTunnel no
PermitUserRC yes
UseDNS no
PrintMotd no
PrintLastLog no
PidFile none
AcceptEnv LANG LC_*
Subsystem sftp internal-sftp
`
}

async function feed(transport: Transport, running: Running): Promise<void> {
  running.stdin.on('error', () => {})
  for (let packet = await transport.receive(); packet; packet = await transport.receive()) {
    const bytes = packet
    if (running.stdin.writable) await new Promise<void>(resolve => running.stdin.write(bytes, () => resolve()))
  }
  running.stdin.end()
}

async function sendAll(transport: Transport, bytes: Uint8Array): Promise<void> {
  for (let offset = 0; offset < bytes.length; offset += LIMITS.packetBytes) {
    transport.send(bytes.subarray(offset, offset + LIMITS.packetBytes))
  }
  await transport.drained()
}
