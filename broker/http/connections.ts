/**
 * Connections to the HTTP listener. Each counts for the address that it comes from until a request on it has shown who
 * asks, and from then on for that user; one that became a WebSocket counts elsewhere. Requests come one after the other:
 * who sends the next before the answer to the last is cut off, for hundreds of requests fit into one packet. SPEC §3
 */
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Shares } from '../shares.ts'

export class Connections {
  readonly #strangers = new Shares<Socket>(socket => socket.destroy(), {
    each: LIMITS.connectionsPerAddress,
    most: LIMITS.connectionsUnknown,
  })
  readonly #users = new Shares<Socket>(socket => socket.destroy(), {
    each: LIMITS.connectionsPerUser,
    most: LIMITS.connectionsOfUsers,
  })
  /** with a request that is not answered yet */
  readonly #answering = new Set<Socket>()

  /** Counts the connections of a server. `onClosed` is called when one has ended. */
  watch(server: Server, onClosed: () => void): void {
    server.on('connection', (socket: Socket) => {
      this.#strangers.add(socket, socket.remoteAddress ?? 'unknown')
      socket.once('close', () => {
        this.#forget(socket)
        onClosed()
      })
    })
    server.on('upgrade', (request: IncomingMessage) => this.#forget(request.socket))
  }

  /** The request on this connection is a user's. */
  prove(socket: Socket, user: string): void {
    if (!socket.destroyed) this.#users.add(socket, user)
    this.#strangers.delete(socket)
  }

  /** Lets one request at a time through; what of a request was not read when it is answered is not waited for. */
  oneByOne(listener: RequestListener): RequestListener {
    return (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request
      if (socket.destroyed) return
      if (this.#answering.has(socket)) return void socket.destroy()
      this.#answering.add(socket)
      response.once('close', () => this.#answering.delete(socket))
      response.once('finish', () => {
        if (!request.complete) socket.destroySoon()
      })
      listener(request, response)
    }
  }

  #forget(socket: Socket): void {
    this.#strangers.delete(socket)
    this.#users.delete(socket)
    this.#answering.delete(socket)
  }
}
