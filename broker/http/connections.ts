/**
 * Connections to the HTTP listener. Each counts for the address that it comes from until a request on it has shown who
 * asks, and from then on for that user; one that became a WebSocket counts elsewhere. Those of strangers on which nothing is asked
 * count apart from those with a request under way, so that no number of the first costs anybody an answer. Requests come one after the other:
 * who sends the next before the answer to the last is cut off, for hundreds of requests fit into one packet. SPEC §3
 */
import type { IncomingMessage, RequestListener, Server, ServerResponse } from 'node:http'
import type { Socket } from 'node:net'
import { LIMITS } from '../../protocol/core/limits.ts'
import { addressGroup } from '../shares/address-group.ts'
import { Shares } from '../shares/shares.ts'

const STRANGERS = { each: LIMITS.connectionsPerAddress, most: LIMITS.connectionsUnknown } as const

export class Connections {
  /** nobody has shown a login on them: on which nothing is asked, and with a request under way */
  readonly #idle = new Shares<Socket>(socket => socket.destroy(), STRANGERS)
  readonly #asking = new Shares<Socket>(socket => socket.destroy(), STRANGERS)
  readonly #users = new Shares<Socket>(socket => socket.destroy(), {
    each: LIMITS.connectionsPerUser,
    most: LIMITS.connectionsOfUsers,
  })
  /** with a request that is not answered yet */
  readonly #answering = new Set<Socket>()

  /** Counts the connections of a server. `onClosed` is called when one has ended. */
  watch(server: Server, onClosed: () => void): void {
    server.on('connection', (socket: Socket) => {
      this.#idle.add(socket, addressGroup(socket.remoteAddress))
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
    this.#idle.delete(socket)
    this.#asking.delete(socket)
  }

  /** Lets one request at a time through; what of a request was not read when it is answered is not waited for. */
  oneByOne(listener: RequestListener): RequestListener {
    return (request: IncomingMessage, response: ServerResponse) => {
      const { socket } = request
      if (socket.destroyed) return
      if (this.#answering.has(socket)) return void socket.destroy()
      this.#answering.add(socket)
      move(socket, this.#idle, this.#asking)
      response.once('close', () => {
        this.#answering.delete(socket)
        move(socket, this.#asking, this.#idle)
      })
      response.once('finish', () => {
        if (!request.complete) socket.destroySoon()
      })
      listener(request, response)
    }
  }

  #forget(socket: Socket): void {
    this.#idle.delete(socket)
    this.#asking.delete(socket)
    this.#users.delete(socket)
    this.#answering.delete(socket)
  }
}

/** Counts a socket among others than so far, if it is one of those. */
function move(socket: Socket, from: Shares<Socket>, to: Shares<Socket>): void {
  if (!from.has(socket)) return
  from.delete(socket)
  to.add(socket, addressGroup(socket.remoteAddress))
}
