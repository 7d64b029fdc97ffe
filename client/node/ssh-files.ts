/**
 * Files for stock OpenSSH: a key of the user, a known-hosts file for each VM with the host keys that came through the
 * channel, and ssh_config blocks that check them strictly and ask nothing.
 */
import { execFile } from 'node:child_process'
import { link, mkdir, mkdtemp, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { sshPublicKey } from '../../protocol/commands/ssh.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import { hasCode, readTrusted, writeWhole } from './files.ts'

const LARGEST_KEY_BYTES = 16_384
const KEYGEN_MS = 30_000
/** to the end of the key exchange, the VM's part included; then how often, and how often in vain, the other end is asked */
const CONNECT_SECONDS = 60
const ALIVE_SECONDS = 20
const ALIVE_COUNT = 3
export const JUMP_ALIAS = 'mortar-jump'

/** Under this name OpenSSH looks the VM's host key up, whatever address leads there. */
export const hostAlias = (vm: string) => `mortar-${vm}`

export interface SshFiles {
  /** private key, made by ssh-keygen at first use */
  readonly key: string
  readonly knownHosts: (alias: string) => string
  readonly config: (alias: string) => string
}

/** Paths below `folder`, such as ~/.config/mortar/ssh. */
export function sshFiles(folder: string): SshFiles {
  return {
    key: join(folder, 'id_ed25519'),
    knownHosts: alias => join(folder, `${alias}.known_hosts`),
    config: alias => join(folder, `${alias}.config`),
  }
}

/**
 * The user's public key, type and base64 only; makes the pair when there is none. An interruption leaves a whole pair or
 * what the next call completes. Fails with internal without ssh-keygen, denied when others could have put the files there.
 */
export async function userPublicKey(folder: string, onMade: (path: string) => void = () => {}): Promise<string> {
  const { key } = sshFiles(folder)
  const path = `${key}.pub`
  const file = await readTrusted(path, LARGEST_KEY_BYTES)
  const whole = await readTrusted(key, LARGEST_KEY_BYTES)
  wipe(whole?.bytes)
  if (!whole) {
    await makeKey(folder, key)
    onMade(key)
  }
  if (file && whole) return publicKeyOf(decodeText(file.bytes), path)
  const line = publicKeyOf(await sshKeygen(['-y', '-f', key]), path)
  await writeWhole(path, encodeText(`${line} mortar\n`))
  return line
}

/** Makes the private key in a folder of its own, so that it appears whole; leaves one that was made meanwhile. */
async function makeKey(folder: string, key: string): Promise<void> {
  await mkdir(folder, { recursive: true, mode: 0o700 })
  const making = await mkdtemp(join(folder, 'making-'))
  try {
    const made = join(making, 'key')
    await sshKeygen(['-q', '-t', 'ed25519', '-N', '', '-C', 'mortar', '-f', made])
    await link(made, key).catch(thrown => {
      if (!hasCode(thrown, 'EEXIST')) throw thrown
    })
  } finally {
    await rm(making, { recursive: true, force: true })
  }
}

/** What ssh-keygen prints. Fails with internal. */
async function sshKeygen(argv: readonly string[]): Promise<string> {
  try {
    const running = promisify(execFile)('ssh-keygen', argv, { timeout: KEYGEN_MS })
    // a question is answered by the end of its input, not waited for
    running.child.stdin?.end()
    return (await running).stdout
  } catch (cause) {
    const why = hasCode(cause, 'ENOENT') ? 'ssh-keygen is not installed (apt install openssh-client)' : String(cause)
    throw new MortarError('internal', why, { cause })
  }
}

/** Type and base64 of a public key line, without its comment. Fails with bad-request. */
export function publicKeyOf(line: string, where: string): string {
  const checked = sshPublicKey.safeParse(
    line
      .trim()
      .split(/[ \t]+/)
      .slice(0, 2)
      .join(' '),
  )
  if (!checked.success) throw new MortarError('bad-request', `${where} holds no OpenSSH public key`)
  return checked.data
}

/** Writes the known-hosts file of one host; earlier keys, of an earlier boot, are gone. Fails with bad-request. */
export async function writeKnownHosts(folder: string, alias: string, hostKeys: readonly string[]): Promise<void> {
  const lines = hostKeys.map(key => `${alias} ${publicKeyOf(key, 'the answer of the VM')}\n`)
  await writeWhole(sshFiles(folder).knownHosts(alias), encodeText(lines.join('')))
}

export interface SshHost {
  /** names that the block answers to */
  readonly names: readonly string[]
  readonly alias: string
  readonly hostName: string
  readonly port?: number
  readonly user: string
  /** command whose input and output are the connection */
  readonly proxyCommand?: readonly string[]
  readonly jump?: string
}

/** A Host block for ssh_config(5): strict checking against our file, our key and no other, no prompt. */
export function sshConfigBlock(folder: string, host: SshHost): string {
  const files = sshFiles(folder)
  const lines = [
    `Host ${host.names.join(' ')}`,
    `HostName ${host.hostName}`,
    ...(host.port === undefined ? [] : [`Port ${host.port}`]),
    `HostKeyAlias ${host.alias}`,
    `User ${host.user}`,
    `IdentityFile ${quoted(files.key)}`,
    'IdentitiesOnly yes',
    `UserKnownHostsFile ${quoted(files.knownHosts(host.alias))}`,
    'GlobalKnownHostsFile none',
    'StrictHostKeyChecking yes',
    'CheckHostIP no',
    'UpdateHostKeys no',
    'PreferredAuthentications publickey',
    'BatchMode yes',
    // a broker that holds a connection without answering must not hold ssh
    `ConnectTimeout ${CONNECT_SECONDS}`,
    `ServerAliveInterval ${ALIVE_SECONDS}`,
    `ServerAliveCountMax ${ALIVE_COUNT}`,
    ...(host.proxyCommand ? [`ProxyCommand ${host.proxyCommand.map(shellWord).join(' ')}`] : []),
    ...(host.jump ? [`ProxyJump ${host.jump}`] : []),
  ]
  return `${lines.join('\n  ')}\n`
}

/**
 * The jump host at the broker. `brokerUrl`: its HTTP address, whose host name is also the jump host's. `user`: the account in
 * VMs, which tells people apart who named the same key.
 */
export function jumpHost(brokerUrl: string, port: number, user: string): SshHost {
  // an IPv6 address stands in brackets in a URL and without them in ssh_config
  const hostName = new URL(brokerUrl).hostname.replace(/^\[|\]$/g, '')
  return { names: [JUMP_ALIAS], alias: JUMP_ALIAS, hostName, port, user }
}

/** A path in ssh_config: % begins a token there, and spaces need quotes. */
function quoted(path: string): string {
  if (/["\n\r]/.test(path)) throw new MortarError('bad-request', `OpenSSH cannot be told the path ${path}`)
  return `"${path.replaceAll('%', '%%')}"`
}

/** A word for the shell that runs a ProxyCommand; % is a token there too. */
function shellWord(word: string): string {
  if (/[\n\r]/.test(word)) throw new MortarError('bad-request', 'OpenSSH cannot be told an argument with a line break')
  const escaped = word.replaceAll('%', '%%')
  return /^[A-Za-z0-9_./:=@%+,-]+$/.test(word) ? escaped : `'${escaped.replaceAll("'", "'\\''")}'`
}
