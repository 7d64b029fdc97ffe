/** WebSockets of the broker: the agents' control sockets by ws, and the upgrade of data sockets, which then belong to the relay. */
import { createHash } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import { Socket } from 'node:net'
import type { Duplex } from 'node:stream'
import { createWebSocketStream, WebSocket, WebSocketServer } from 'ws'
import { JOIN_PATH, JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'
import { LIMITS } from '../../protocol/core/limits.ts'

/** what RFC 6455 section 1.3 has a server add to the key */
const ACCEPT_SUFFIX = '258EAFA5-E914-47DA-95CA-C5AB0DC85B11'
/** characters of a UUID */
const ID_CHARACTERS = 36
/** bytes queued towards an agent that does not read, beyond which its socket is given up */
const MOST_QUEUED_BYTES = 256 * 1024

/** A socket of text messages. */
export interface ControlSocket {
  /** whom it comes from, by IP address */
  readonly address: string
  /** the VM that it was dialled for, so it says; or null */
  readonly vm: string | null
  /** true where `vm` follows from the address, which the host holds it to */
  readonly proven?: boolean
  send(text: string): void
  onMessage(listener: (text: string) => void): void
  /** called once, also when it was closed from here */
  onClosed(listener: () => void): void
  /** Closes in order, and cuts the socket of who does not answer that. */
  close(): void
  /** Ends it at once. */
  cut(): void
}

const server = new WebSocketServer({ noServer: true, perMessageDeflate: false, maxPayload: LIMITS.controlBytes })

/** Answers the upgrade of an agent's control socket. Pings it, and closes it when it is silent. */
export function acceptControl(
  request: IncomingMessage,
  socket: Duplex,
  head: Buffer,
  accept: (socket: ControlSocket) => void,
): void {
  server.handleUpgrade(request, socket, head, connection => {
    let alive = true
    const pinging = setInterval(() => {
      if (!alive) return connection.terminate()
      alive = false
      connection.ping()
    }, LIMITS.pingMs)
    connection.on('pong', () => {
      alive = true
    })
    // ws answers by itself; one that asks and never reads the answers is not kept
    connection.on('ping', () => {
      if (connection.bufferedAmount > MOST_QUEUED_BYTES) connection.terminate()
    })
    connection.on('error', () => connection.terminate())
    connection.on('close', () => clearInterval(pinging))
    accept({
      address: request.socket.remoteAddress ?? 'unknown',
      vm: vmNamed(request),
      send(text) {
        if (connection.bufferedAmount > MOST_QUEUED_BYTES) connection.terminate()
        else if (connection.readyState === connection.OPEN) connection.send(text)
      },
      onMessage(listener) {
        connection.on('message', (data, isBinary) => {
          if (isBinary) connection.terminate()
          else listener(data.toString())
        })
      },
      onClosed: listener => connection.once('close', listener),
      close() {
        connection.close()
        setTimeout(() => connection.terminate(), 1000).unref()
      },
      cut: () => connection.terminate(),
    })
  })
}

/** The VM that a control socket names; what is too long for an id of one is nobody's. */
function vmNamed({ url = '' }: IncomingMessage): string | null {
  const named = new URLSearchParams(url.split('?')[1]).get('vm')
  return named !== null && named.length <= ID_CHARACTERS ? named : null
}

/** The join token that an upgrade offers as its second subprotocol, if it is a proper one. SPEC §4 */
export function joinTokenOf(request: IncomingMessage): string | undefined {
  const { headers } = request
  const offered = (headers['sec-websocket-protocol'] ?? '').split(',').map(item => item.trim())
  const token = offered.find(item => item.startsWith(JOIN_TOKEN_PREFIX))?.slice(JOIN_TOKEN_PREFIX.length)
  const proper =
    request.method === 'GET' &&
    headers.upgrade?.toLowerCase() === 'websocket' &&
    headers['sec-websocket-version'] === '13' &&
    /^[A-Za-z0-9+/]{22}==$/.test(headers['sec-websocket-key'] ?? '') &&
    offered[0] === JOIN_PROTOCOL
  return proper && token && token.length <= 64 ? token : undefined
}

/** Answers the upgrade of a data socket; nothing but the relay reads it afterwards. */
export function acceptData(request: IncomingMessage, socket: Duplex, head: Buffer): void {
  const accept = createHash('sha1').update(`${request.headers['sec-websocket-key']}${ACCEPT_SUFFIX}`).digest('base64')
  socket.pause()
  // a peer that vanished without a word is found out also while nothing is sent
  if (socket instanceof Socket) socket.setKeepAlive(true, LIMITS.pingMs)
  if (head.length > 0) socket.unshift(head)
  socket.write(
    `HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: ${accept}\r\nSec-WebSocket-Protocol: ${JOIN_PROTOCOL}\r\n\r\n`,
  )
}

/** Refuses an upgrade and closes. */
export function refuseUpgrade(socket: Duplex, status: '400 Bad Request' | '401 Unauthorized' | '404 Not Found'): void {
  socket.on('error', () => undefined)
  // after an upgrade nobody else closes a socket whose peer does not
  socket.once('finish', () => socket.destroy())
  socket.end(`HTTP/1.1 ${status}\r\nConnection: close\r\nContent-Length: 0\r\n\r\n`)
}

/** The client's end of a pair as a byte stream, for the jump host. `origin`: http://host:port of this broker. */
export function dialPair(origin: string, token: string): Duplex {
  const socket = new WebSocket(
    `${origin.replace(/^http/, 'ws')}${JOIN_PATH}`,
    [JOIN_PROTOCOL, JOIN_TOKEN_PREFIX + token],
    // masks protect caches between browser and server; there are none on this path
    { perMessageDeflate: false, maxPayload: LIMITS.packetBytes, generateMask: mask => mask.fill(0) },
  )
  return createWebSocketStream(socket, { highWaterMark: 32_768 })
}
