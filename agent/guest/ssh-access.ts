/**
 * SSH into the guest without an open port: `sshd -i` on a joined pair, started by PID 1 for each connection. The host key
 * is new at each boot and lives on tmpfs; users' keys come over the encrypted channel and expire. SPEC §9.5
 */
import { execFile } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { callAt } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import type { Rights } from '../../protocol/rights.ts'
import { clock, deadlineClock, sleep } from '../clock.ts'
import type { Runner, Running } from './runner.ts'
import { findUser, type User } from './users.ts'

const SSHD = '/usr/sbin/sshd'
/** there while the system starts: PAM lets nobody in */
const NO_LOGIN = '/run/nologin'
const BOOTED_MS = 90_000

/** A user's public key that may log in. */
interface DeliveredKey {
  /** type and base64, as in authorized_keys */
  readonly key: string
  /** ms since 1970 */
  readonly expires: number
  /** who delivered it; null: the owner */
  readonly grantee: string | null
}

export class SshAccess {
  readonly #runner: Runner
  readonly #folder: string
  /** by user */
  readonly #keys = new Map<string, DeliveredKey[]>()
  /** ends a connection; which key opened it only sshd knows */
  readonly #connections = new Set<() => void>()
  /** grantees who deliver keys; what it holds cancels the end of their time, and is another after a withdrawal */
  readonly #grantees = new Map<string, () => void>()
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
    return [...this.#keys.values()].flat().some(({ expires }) => expires > Date.now())
  }

  /**
   * Lets the holder of `key` log in as the user for some seconds, at most until the caller's rights end. Resolves with the
   * guest's public host keys. Nothing is delivered once `signal` is aborted, or the grantee's rights were withdrawn, though
   * the host key was still being made. Fails with denied for root, limit-exceeded, grant-revoked, or why it was aborted.
   */
  async authorise(
    user: User,
    key: string,
    validSeconds: number,
    { grantee, endsMs }: Pick<Rights, 'grantee' | 'endsMs'>,
    signal: AbortSignal,
  ): Promise<string[]> {
    if (user.uid === 0) throw new MortarError('denied', 'root may not log in by SSH')
    if (!existsSync(SSHD)) throw new MortarError('exec-not-found', SSHD)
    // known from now on, so that a withdrawal during the wait below is seen after it
    const since = grantee === null ? undefined : this.#watch(grantee, endsMs)
    this.#hostKey ??= this.#makeHostKey()
    this.#hostKey.catch(() => {
      this.#hostKey = undefined
    })
    const hostKey = await this.#hostKey
    if (grantee !== null && this.#grantees.get(grantee) !== since) throw new MortarError('grant-revoked', grantee)
    signal.throwIfAborted()
    const expires = Math.min(Date.now() + validSeconds * 1000, endsMs ?? Number.POSITIVE_INFINITY)
    const others = (this.#keys.get(user.name) ?? []).filter(held => held.key !== key || held.grantee !== grantee)
    if (others.filter(held => held.grantee === grantee && held.expires > Date.now()).length >= LIMITS.sshKeysEach) {
      throw new MortarError('limit-exceeded', `${LIMITS.sshKeysEach} SSH keys`)
    }
    this.#write(user.name, [...others, { key, expires, grantee }])
    return [hostKey]
  }

  /** Has the grantee's keys withdrawn at the end of the grant: a login outlasts its key, but not the grant. */
  #watch(grantee: string, endsMs: number | null): () => void {
    const known = this.#grantees.get(grantee)
    if (known) return known
    const cancel = endsMs === null ? () => {} : callAt(deadlineClock, endsMs, () => this.withdraw(grantee))
    this.#grantees.set(grantee, cancel)
    return cancel
  }

  /**
   * Forgets the keys that a grantee delivered. All connections end then: those of others can be opened again. What fails
   * for one user of the guest is thrown only when the others are done.
   */
  withdraw(grantee: string): void {
    const cancel = this.#grantees.get(grantee)
    if (!cancel) return
    cancel()
    this.#grantees.delete(grantee)
    for (const end of [...this.#connections]) end()
    const failures: unknown[] = []
    for (const [user, keys] of this.#keys) {
      const others = keys.filter(held => held.grantee !== grantee)
      try {
        this.#write(user, others)
      } catch (thrown) {
        failures.push(thrown)
      }
    }
    if (failures.length > 0) throw failures[0]
  }

  #write(user: string, keys: readonly DeliveredKey[]): void {
    const valid = keys.filter(({ expires }) => expires > Date.now())
    this.#keys.set(user, valid)
    const path = join(this.#folder, 'keys', user)
    writeFileSync(`${path}.new`, authorizedKeys(valid), { mode: 0o600 })
    renameSync(`${path}.new`, path)
  }

  /** Serves one connection; resolves when either side has ended it. */
  async serve(transport: Transport): Promise<void> {
    const giveUp = clock.now() + BOOTED_MS
    while (existsSync(NO_LOGIN) && clock.now() < giveUp) await sleep(200)
    const running = await this.#runner.run({
      argv: [SSHD, '-i', '-f', join(this.#folder, 'sshd_config')],
      user: findUser('root'),
      grantee: null,
      cwd: '/',
      env: {},
    })
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

/** Lines of authorized_keys(5). A grantee's forwards would lead past the targets of the grant. */
export function authorizedKeys(keys: readonly DeliveredKey[]): string {
  return keys
    .map(({ key, expires, grantee }) => {
      const forwarding = grantee === null ? '' : ',no-port-forwarding'
      return `expiry-time="${sshTime(expires)}"${forwarding} ${key}\n`
    })
    .join('')
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
