/** The listening socket: HTTP to the application, upgrades to agents and relay. */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Server as NetServer } from 'node:net'
import type { Duplex } from 'node:stream'
import { getRequestListener } from '@hono/node-server'
import { JOIN_PATH } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Address } from '../config.ts'
import type { Connections } from './connections.ts'
import { acceptData, joinTokenOf, refuseUpgrade } from './websocket.ts'

export interface Joins {
  spendToken(token: string): { take(socket: Duplex): void } | undefined
}

export interface ListenerParts {
  readonly connections: Connections
  readonly joins: Joins
  /** a connection has ended */
  onClosed(): void
}

/** Makes the server; the caller listens and closes. */
export function createListener(
  fetch: (request: Request, bindings: unknown) => Response | Promise<Response>,
  { connections, joins, onClosed }: ListenerParts,
): Server {
  // an API call takes seconds at most; a header that trickles in is an attack
  const limits = {
    headersTimeout: LIMITS.authenticationMs,
    connectionsCheckingInterval: 1_000,
    requestTimeout: LIMITS.bodyMs,
    maxHeaderSize: 16_384,
  }
  const server = createServer(limits, connections.oneByOne(getRequestListener(fetch as never)))
  connections.watch(server, onClosed)
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const [path] = (request.url ?? '').split('?')
    if (path === JOIN_PATH) joinPair(request, socket, head, joins)
    else refuseUpgrade(socket, '404 Not Found')
  })
  return server
}

/** Answers the upgrade of an end of a pair by its token. */
export function joinPair(request: IncomingMessage, socket: Duplex, head: Buffer, { spendToken }: Joins): void {
  const token = joinTokenOf(request)
  if (token === undefined) return refuseUpgrade(socket, '400 Bad Request')
  const place = spendToken(token)
  if (!place) return refuseUpgrade(socket, '401 Unauthorized')
  acceptData(request, socket, head)
  place.take(socket)
}

const REFUSALS: Readonly<Record<string, string>> = {
  EADDRNOTAVAIL: 'no interface of this host has it',
  EACCES: 'a port below 1024 takes root',
}

/** Listens; returns the port. Fails with port-taken or address-unusable. */
export function listen(server: NetServer, { host, port }: Address): Promise<number> {
  return new Promise((resolve, reject) => {
    // stays for good: an error of a server that listens must not end the program
    server.on('error', (cause: NodeJS.ErrnoException) => {
      const detail = `${host}:${port}`
      if (cause.code === 'EADDRINUSE') reject(new MortarError('port-taken', detail, { cause }))
      else {
        const why = REFUSALS[cause.code ?? ''] ?? cause.message
        reject(new MortarError('address-unusable', `${detail}: ${why}`, { cause }))
      }
    })
    server.listen(port, host, () => {
      const address = server.address()
      resolve(typeof address === 'object' && address ? address.port : port)
    })
  })
}
