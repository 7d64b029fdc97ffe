/**
 * The jump host for `ssh -J`: OpenSSH logs in here with a registered key and asks for a connection to a VM by name; the
 * bytes go to sshd in the guest over a joined pair. No shell, no command, no other destination.
 */
import { readFileSync } from 'node:fs'
import { createServer, type Server, type Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import type { AuthContext, Connection, ParsedKey, ServerChannel } from 'ssh2'
import { asMortarError } from '../../protocol/core/errors.ts'
import { Newcomers } from '../http/newcomers.ts'
import type { Log } from '../log.ts'
import { hostKey } from './host-key.ts'

const MOST_CONNECTIONS = 256
const LOGIN_MS = 20_000
const KEEP_ALIVE_MS = 60_000
const SSH_PORT = 22

export interface JumpHostParts {
  /** where the host key is kept, and its public line beside it */
  readonly keyPath: string
  readonly log: Log
  /** the users who named the key ("type base64") and whose login that is: several may have named one key */
  usersOf(key: string, login: string): readonly string[]
  /** a byte stream to sshd in a VM of one of the users, by name or id. Fails with not-found, vm-unreachable, rate-limited */
  connect(users: readonly string[], vm: string): Duplex
}

export interface JumpHost {
  readonly server: Server
  /** host key as OpenSSH prints it: type and base64 */
  readonly hostKey: string
  /** Stops listening and ends all connections. */
  close(): void
}

/** Makes the host key on first use. The caller listens and closes. */
export async function createJumpHost(parts: JumpHostParts): Promise<JumpHost> {
  const key = await hostKey(parts.keyPath)
  // ssh2 is big: it is loaded when the first connection comes
  let acceptor: Promise<(socket: Socket, onLogin: () => void) => void> | undefined
  const sockets = new Set<Socket>()
  const newcomers = new Newcomers<Socket>(socket => socket.destroy())
  const server = createServer({ noDelay: true, keepAlive: true, keepAliveInitialDelay: KEEP_ALIVE_MS }, socket => {
    sockets.add(socket)
    newcomers.add(socket, socket.remoteAddress ?? 'unknown')
    // counts from the first byte, before ssh2 knows of a connection
    const deadline = setTimeout(() => socket.destroy(), LOGIN_MS)
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      sockets.delete(socket)
      onLogin()
    })
    const onLogin = () => {
      clearTimeout(deadline)
      newcomers.delete(socket)
    }
    acceptor ??= createAcceptor(parts)
    acceptor.then(accept => accept(socket, onLogin)).catch(() => socket.destroy())
  })
  server.maxConnections = MOST_CONNECTIONS
  const close = () => {
    server.close()
    for (const socket of sockets) socket.destroy()
  }
  return { server, close, hostKey: key }
}

async function createAcceptor(parts: JumpHostParts): Promise<(socket: Socket, onLogin: () => void) => void> {
  const { default: ssh2 } = await import('ssh2')
  const { Server: SshServer, utils } = ssh2
  const hostKeys = [readFileSync(parts.keyPath)]
  // no compression: a few bytes of it can unpack to gigabytes
  const config = { hostKeys, ident: 'mortar', algorithms: { compress: ['none' as const] } }
  // one server for each connection, since ssh2 does not say which socket a connection came by
  return (socket, onLogin) => {
    const server = new SshServer(config, connection => serve(connection, parts, utils.parseKey, onLogin))
    server.on('error', () => socket.destroy())
    server.injectSocket(socket)
  }
}

type ParseKey = (data: Buffer) => ParsedKey | ParsedKey[] | Error

function serve(connection: Connection, parts: JumpHostParts, parseKey: ParseKey, onLogin: () => void): void {
  let users: readonly string[] = []
  connection.on('authentication', context => {
    try {
      const [named, proven] = checkKey(context, parts, parseKey)
      // only a signature says who it is; without one the client asks whether the key would do (RFC 4252 section 7)
      if (proven) users = named
      if (named.length > 0) context.accept()
      else context.reject(['publickey'])
    } catch (thrown) {
      parts.log.warn('ssh.refused', { code: asMortarError(thrown).code })
      context.reject(['publickey'])
    }
  })
  connection.on('ready', () => {
    onLogin()
    connection.on('session', (_accept, reject) => reject())
    connection.on('tcpip', (accept, reject, { destIP, destPort }) => {
      if (destPort !== SSH_PORT) return reject()
      let guest: Duplex
      try {
        guest = parts.connect(users, destIP)
      } catch (thrown) {
        parts.log.warn('ssh.refused', { code: asMortarError(thrown).code })
        return reject()
      }
      join(accept(), guest)
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

/** The users who named the key (none when it does not do), and whether the client proved that it holds it. */
function checkKey(context: AuthContext, parts: JumpHostParts, parseKey: ParseKey): [readonly string[], boolean] {
  if (context.method !== 'publickey') return [[], false]
  const users = parts.usersOf(`${context.key.algo} ${context.key.data.toString('base64')}`, context.username)
  if (!context.signature || !context.blob) return [users, false]
  const key = parseKey(context.key.data)
  if (key instanceof Error || Array.isArray(key)) return [[], false]
  return key.verify(context.blob, context.signature, context.hashAlgo) === true ? [users, true] : [[], false]
}
