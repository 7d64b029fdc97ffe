/**
 * SSH into the guest without an open port: `sshd -i` on a joined pair, started by PID 1 for each connection. The host key
 * is new at each boot and lives on tmpfs; users' keys come over the encrypted channel and expire. SPEC §9.5
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { clock, sleep } from '../clock.ts'
import type { Runner, Running } from './runner.ts'
import { findUser, type User } from './users.ts'

const SSHD = '/usr/sbin/sshd'
/** there while the system starts: PAM lets nobody in */
const NO_LOGIN = '/run/nologin'
const BOOTED_MS = 90_000
/** valid keys of one user */
const MOST_KEYS = 64

export class SshAccess {
  readonly #runner: Runner
  readonly #folder: string
  readonly #keys = new Map<string, Map<string, number>>()
  #hostKey: Promise<string> | undefined

  /** `directory`: on tmpfs, root's only, the same in every run of a boot. */
  constructor(runner: Runner, directory: string) {
    this.#runner = runner
    this.#folder = join(directory, 'ssh')
    // keys that an earlier run of the agent took are delivered again by their clients
    rmSync(join(this.#folder, 'keys'), { recursive: true, force: true })
  }

  /** True while some delivered key has not expired. */
  authorised(): boolean {
    return [...this.#keys.values()].some(keys => [...keys.values()].some(expires => expires > Date.now()))
  }

  /** Lets the holder of `userKey` log in as the user for some seconds. Resolves with the guest's public host keys. Fails with denied for root, limit-exceeded. */
  async authorise(user: User, userKey: string, validSeconds: number): Promise<string[]> {
    if (user.uid === 0) throw new MortarError('denied', 'root may not log in by SSH')
    if (!existsSync(SSHD)) throw new MortarError('exec-not-found', SSHD)
    this.#hostKey ??= this.#makeHostKey()
    this.#hostKey.catch(() => {
      this.#hostKey = undefined
    })
    const hostKey = await this.#hostKey
    const keys = this.#keys.get(user.name) ?? new Map<string, number>()
    for (const [key, expires] of keys) if (expires <= Date.now()) keys.delete(key)
    if (keys.size >= MOST_KEYS && !keys.has(userKey)) throw new MortarError('limit-exceeded', 'SSH keys')
    keys.set(userKey, Date.now() + validSeconds * 1000)
    this.#keys.set(user.name, keys)
    const path = join(this.#folder, 'keys', user.name)
    writeFileSync(`${path}.new`, authorizedKeys(keys), { mode: 0o600 })
    renameSync(`${path}.new`, path)
    return [hostKey]
  }

  /** Serves one connection; resolves when either side has ended it. */
  async serve(transport: Transport): Promise<void> {
    const giveUp = clock.now() + BOOTED_MS
    while (existsSync(NO_LOGIN) && clock.now() < giveUp) await sleep(200)
    const running = await this.#runner.run({
      argv: [SSHD, '-i', '-f', join(this.#folder, 'sshd_config')],
      user: findUser('root'),
      cwd: '/',
      env: {},
      sparesChildren: true,
    })
    running.stderr.on('error', () => {}).resume()
    try {
      void feed(transport, running).catch(() => running.kill())
      for await (const chunk of running.stdout) await sendAll(transport, chunk as Uint8Array)
    } finally {
      running.kill()
    }
  }

  async #makeHostKey(): Promise<string> {
    const path = join(this.#folder, 'host_key')
    mkdirSync(join(this.#folder, 'keys'), { recursive: true, mode: 0o700 })
    if (!existsSync(`${path}.pub`)) {
      rmSync(path, { force: true })
      await promisify(execFile)('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', '', '-f', path])
    }
    writeFileSync(join(this.#folder, 'sshd_config'), sshdConfig(this.#folder), { mode: 0o600 })
    return readFileSync(`${path}.pub`, 'utf8').trim().split(' ').slice(0, 2).join(' ')
  }
}

/** Lines of authorized_keys(5). `keys`: the key and when it expires, ms since 1970. */
export function authorizedKeys(keys: ReadonlyMap<string, number>): string {
  return [...keys].map(([key, expires]) => `expiry-time="${sshTime(expires)}" ${key}\n`).join('')
}

/** YYYYMMDDHHMMSSZ */
function sshTime(ms: number): string {
  return `${new Date(ms).toISOString().replace(/\D/g, '').slice(0, 14)}Z`
}

/** The keys are read by a command run as root: sshd would read a file as the user, who must not see the folder. */
function sshdConfig(folder: string): string {
  return `HostKey ${folder}/host_key
AuthorizedKeysFile none
AuthorizedKeysCommand /bin/cat ${folder}/keys/%u
AuthorizedKeysCommandUser root
AuthenticationMethods publickey
PasswordAuthentication no
KbdInteractiveAuthentication no
PermitRootLogin no
UsePAM yes
AllowTcpForwarding yes
GatewayPorts no
X11Forwarding no
PermitTunnel no
UseDNS no
PrintMotd no
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
