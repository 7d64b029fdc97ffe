/** Servers that joined sockets dial in tests: they answer the upgrade with any lines, and hand over the raw socket. */
import { createHash } from 'node:crypto'
import { once } from 'node:events'
import { createServer, type Server } from 'node:http'
import type { AddressInfo, Socket } from 'node:net'
import { JOIN_PROTOCOL } from '../../protocol/control/sockets.ts'

const servers: Server[] = []
const sockets = new Set<Socket>()
/** Ends all of them, for afterEach(). */
export function closeServers(): void {
  for (const socket of sockets) socket.destroy()
  stopListening()
}

/** New connections are refused from now on. */
export function stopListening(): void {
  for (const server of servers.splice(0)) server.close()
}

/** Its address, with the join path. */
export async function listen(server: Server, scheme: string): Promise<URL> {
  servers.push(server)
  server.on('connection', (socket: Socket) => {
    sockets.add(socket)
    socket.on('error', () => undefined)
  })
  server.listen(0, '127.0.0.1')
  await once(server, 'listening')
  return new URL(`${scheme}://127.0.0.1:${(server.address() as AddressInfo).port}/v1/join`)
}

export const acceptOf = (key: string | undefined) =>
  createHash('sha1').update(`${key}258EAFA5-E914-47DA-95CA-C5AB0DC85B11`).digest('base64')

/** A server that answers the upgrade with these lines, and `rest` right behind them. */
export async function answering(lines: (key: string | undefined) => string[], rest: Uint8Array = Buffer.alloc(0)) {
  const server = createServer()
  const offered: (string | undefined)[] = []
  const upgraded = new Promise<Socket>(resolve => {
    server.on('upgrade', (request, stream) => {
      offered.push(request.headers['sec-websocket-protocol'])
      const head = lines(request.headers['sec-websocket-key']).join('\r\n')
      if (head) stream.write(Buffer.concat([Buffer.from(`${head}\r\n\r\n`), rest]))
      resolve(stream as Socket)
    })
  })
  return { url: await listen(server, 'ws'), upgraded, offered }
}

/** what a broker answers */
export const proper = (key: string | undefined) => [
  'HTTP/1.1 101 Switching Protocols',
  'Upgrade: websocket',
  'Connection: Upgrade',
  `Sec-WebSocket-Accept: ${acceptOf(key)}`,
  `Sec-WebSocket-Protocol: ${JOIN_PROTOCOL}`,
]
