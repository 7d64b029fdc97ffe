/**
 * The jump host for `ssh -J`: OpenSSH logs in here with a registered key and asks for a connection to a VM by name; the
 * bytes go to sshd in the guest over a joined pair. No shell, no command, no other destination.
 */
import { readFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { AuthContext, Connection, ParsedKey, PublicKeyAuthContext, ServerChannel } from 'ssh2'
import { asMortarError } from '../../protocol/core/errors.ts'
import type { Log } from '../process/log.ts'
import { SshConnections } from './connections.ts'
import { hostKey } from './host-key.ts'

const LOGIN_MS = 20_000
/** ms after which the jump host names itself to a client that waits for that */
const SPEAK_FIRST_MS = 500
const KEEP_ALIVE_MS = 60_000
const SSH_PORT = 22

export interface JumpHostParts {
  /** where the host key is kept, and its public line beside it */
  readonly keyPath: string
  readonly log: Log
  /** the users who named the key ("type base64") and whose login that is: several may have named one key */
  usersOf(key: string, login: string): readonly string[]
  /** a connection has ended */
  onClosed(): void
  /** a byte stream to sshd in a VM of one of the users, by name or id. Fails with not-found, vm-unreachable, rate-limited */
  connect(users: readonly string[], vm: string): Duplex
}

export interface JumpHost {
  readonly server: Server
  /** host key as OpenSSH prints it: type and base64 */
  readonly hostKey: string
  /** Ends the connections that are logged in by a key ("type base64"). */
  drop(key: string): void
  /** Stops listening and ends all connections. */
  close(): void
}

/** Makes the host key on first use. The caller listens and closes. */
export async function createJumpHost(parts: JumpHostParts): Promise<JumpHost> {
  const key = await hostKey(parts.keyPath)
  // ssh2 is big: it is loaded when the first connection comes
  let acceptor: Promise<(socket: Socket, onLogin: () => void) => void> | undefined
  const sockets = new Set<Socket>()
  const connections = new SshConnections()
  const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }, socket => {
    sockets.add(socket)
    connections.open(socket)
    // counts from the first byte, before ssh2 knows of a connection
    const deadline = setTimeout(() => socket.destroy(), LOGIN_MS)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      sockets.delete(socket)
      clearTimeout(deadline)
      parts.onClosed()
    })
    acceptor ??= createAcceptor(parts, connections)
    const [accepting, spoken] = [acceptor, firstBytes(socket)]
    spoken.then(async () => (await accepting)(socket, () => clearTimeout(deadline))).catch(() => socket.destroy())
  })
  const close = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return { server, close, hostKey: key, drop: named => connections.drop(named) }
}

/** Most clients speak at once; ssh2 costs much more than a socket does, and who says nothing is not to have it at once. */
function firstBytes(socket: Socket): Promise<void> {
  return new Promise(resolve => {
    const waited = setTimeout(resolve, SPEAK_FIRST_MS)
    socket.once('readable', resolve)
    socket.once('close', () => clearTimeout(waited))
  })
}

async function createAcceptor(
  parts: JumpHostParts,
  connections: SshConnections,
): Promise<(socket: Socket, onLogin: () => void) => void> {
  const { default: ssh2 } = await import('ssh2')
  const { Server: SshServer, utils } = ssh2
  const hostKeys = [readFileSync(parts.keyPath)]
  // no compression: a few bytes of it can unpack to gigabytes
  const config = { hostKeys, ident: 'mortar', algorithms: { compress: ['none' as const] } }
  // one server for each connection, since ssh2 does not say which socket a connection came by
  return (socket, onLogin) => {
    const server = new SshServer(config, connection => {
      connections.advance(socket, 'speaking')
      serve(connection, { ...parts, parseKey: utils.parseKey, connections, socket, onLogin })
    })
    server.on('error', () => socket.destroy())
    server.injectSocket(socket)
  }
}

interface Serving extends JumpHostParts {
  readonly parseKey: (data: Buffer) => ParsedKey | ParsedKey[] | Error
  readonly connections: SshConnections
  readonly socket: Socket
  onLogin(): void
}

function serve(connection: Connection, serving: Serving): void {
  const { connections, socket, log } = serving
  let users: readonly string[] = []
  let key = ''
  connection.on('handshake', () => connections.advance(socket, 'encrypted'))
  connection.on('authentication', context => {
    try {
      const [named, proven] = checkKey(context, serving)
      if (named.length > 0 && context.method === 'publickey') connections.claim(socket, keyOf(context))
      // only a signature says who it is; without one the client asks whether the key would do (RFC 4252 section 7)
      if (proven && context.method === 'publickey') {
        users = named
        key = keyOf(context)
      }
      if (named.length > 0) context.accept()
      else context.reject(['publickey'])
    } catch (thrown) {
      log.warn('ssh.refused', { code: asMortarError(thrown).code })
      context.reject(['publickey'])
    }
  })
  connection.on('ready', () => {
    serving.onLogin()
    connections.logIn(socket, key, users)
    connection.on('session', (_accept, reject) => reject())
    connection.on('tcpip', (accept, reject, { destIP, destPort }) => {
      if (destPort !== SSH_PORT) return reject()
      let guest: Duplex
      try {
        guest = serving.connect(users, destIP)
      } catch (thrown) {
        log.warn('ssh.refused', { code: asMortarError(thrown).code })
        return reject()
      }
      const ended = connections.openChannel(socket)
      const channel = accept()
      channel.once('close', ended)
      join(channel, guest)
    })
  })
  connection.on('error', () => undefined)
}

function join(channel: ServerChannel, guest: Duplex): void {
  channel.on('error', () => guest.destroy())
  channel.on('close', () => guest.destroy())
  guest.on('error', () => channel.close())
  // after an orderly end the pipe ends the channel, once the client has taken everything
  guest.on('close', () => {
    if (!guest.readableEnded) channel.close()
  })
  channel.on('finish', () => channel.close())
  channel.pipe(guest).pipe(channel)
}

const keyOf = ({ key }: PublicKeyAuthContext) => `${key.algo} ${key.data.toString('base64')}`

/** The users who named the key (none when it does not do), and whether the client proved that it holds it. */
function checkKey(context: AuthContext, { usersOf, parseKey }: Serving): [readonly string[], boolean] {
  if (context.method !== 'publickey') return [[], false]
  const users = usersOf(keyOf(context), context.username)
  if (!context.signature || !context.blob) return [users, false]
  const key = parseKey(context.key.data)
  if (key instanceof Error || Array.isArray(key)) return [[], false]
  return key.verify(context.blob, context.signature, context.hashAlgo) === true ? [users, true] : [[], false]
}
