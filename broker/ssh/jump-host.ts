/**
 * The jump host for `ssh -J`: OpenSSH logs in here with a registered key and asks for a connection to a VM by name; the
 * bytes go to sshd in the guest over a joined pair. No shell, no command, no other destination.
 */
import { existsSync, readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { AuthContext, Connection, ParsedKey } from 'ssh2'
import { asMortarError } from '../../protocol/core/errors.ts'
import type { Log } from '../log.ts'

const MOST_CONNECTIONS = 256
const LOGIN_MS = 20_000
const SSH_PORT = 22

export interface JumpHostParts {
  /** where the host key is kept, and its public line beside it */
  readonly keyPath: string
  readonly log: Log
  /** the user who registered the key ("type base64"), if any */
  userOf(key: string): string | undefined
  /** a byte stream to sshd in a VM of the user, by name or id. Fails with not-found, vm-unreachable */
  connect(user: string, vm: string): Duplex
}

export interface JumpHost {
  readonly server: Server
  /** host key as OpenSSH prints it: type and base64 */
  readonly hostKey: string
}

/** Makes the host key on first use. The caller listens and closes. */
export async function createJumpHost(parts: JumpHostParts): Promise<JumpHost> {
  const publicPath = `${parts.keyPath}.pub`
  if (!existsSync(parts.keyPath) || !existsSync(publicPath)) {
    const { default: ssh2 } = await import('ssh2')
    const keys = ssh2.utils.generateKeyPairSync('ed25519')
    writeFileSync(parts.keyPath, keys.private, { mode: 0o600 })
    writeFileSync(publicPath, `${keys.public.split(' ').slice(0, 2).join(' ')}\n`)
  }
  // ssh2 is big: it is loaded when the first connection comes
  let acceptor: Promise<(socket: Socket) => void> | undefined
  const server = createServer({ noDelay: true }, socket => {
    socket.on('error', () => socket.destroy())
    acceptor ??= createAcceptor(parts)
    acceptor.then(accept => accept(socket)).catch(() => socket.destroy())
  })
  server.maxConnections = MOST_CONNECTIONS
  return { server, hostKey: readFileSync(publicPath, 'utf8').trim() }
}

async function createAcceptor(parts: JumpHostParts): Promise<(socket: Socket) => void> {
  const { default: ssh2 } = await import('ssh2')
  const { Server: SshServer, utils } = ssh2
  const server = new SshServer({ hostKeys: [readFileSync(parts.keyPath)], ident: 'mortar' }, connection =>
    serve(connection, parts, utils.parseKey),
  )
  return socket => server.injectSocket(socket)
}

function serve(
  connection: Connection,
  parts: JumpHostParts,
  parseKey: (data: Buffer) => ParsedKey | ParsedKey[] | Error,
): void {
  let user: string | undefined
  const deadline = setTimeout(() => {
    if (user === undefined) connection.end()
  }, LOGIN_MS)
  connection.on('authentication', context => {
    user = checkKey(context, parts, parseKey)
    if (user !== undefined) context.accept()
    else context.reject(['publickey'])
  })
  connection.on('ready', () => {
    clearTimeout(deadline)
    connection.on('session', (_accept, reject) => reject())
    connection.on('tcpip', (accept, reject, { destIP, destPort }) => {
      if (user === undefined || destPort !== SSH_PORT) return reject()
      let guest: Duplex
      try {
        guest = parts.connect(user, destIP)
      } catch (thrown) {
        parts.log.warn('ssh.refused', { code: asMortarError(thrown).code })
        return reject()
      }
      const channel = accept()
      channel.on('error', () => guest.destroy())
      guest.on('error', () => channel.close())
      channel.on('close', () => guest.destroy())
      guest.on('close', () => channel.close())
      channel.pipe(guest).pipe(channel)
    })
  })
  connection.on('error', () => undefined)
  connection.on('close', () => clearTimeout(deadline))
}

/** The user whose key this is. Without a signature the client only asks whether the key would do (RFC 4252 section 7). */
function checkKey(
  context: AuthContext,
  parts: JumpHostParts,
  parseKey: (data: Buffer) => ParsedKey | ParsedKey[] | Error,
): string | undefined {
  if (context.method !== 'publickey') return undefined
  const user = parts.userOf(`${context.key.algo} ${context.key.data.toString('base64')}`)
  if (user === undefined) return undefined
  if (!context.signature || !context.blob) return user
  const key = parseKey(context.key.data)
  if (key instanceof Error || Array.isArray(key)) return undefined
  return key.verify(context.blob, context.signature, context.hashAlgo) === true ? user : undefined
}
