/** The listener that agents dial, apart from the one of people: control sockets and their ends of pairs, nothing else. SPEC §3 */
import { createServer, type IncomingMessage, type Server } from 'node:http'
import type { Duplex } from 'node:stream'
import { AGENT_PATH, JOIN_PATH } from '../../protocol/control/api.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Connections } from './connections.ts'
import { type Joins, joinPair } from './listener.ts'
import { acceptControl, type ControlSocket, refuseUpgrade } from './websocket.ts'

/** open connections of one VM, where its address tells: its sessions, its control socket, and those that just end */
const MOST_CONNECTIONS_EACH = 2 * LIMITS.sessionsPerVm

export interface AgentUpgrades extends Joins {
  acceptAgent(socket: ControlSocket): void
  /** the VM that has this address; undefined where addresses do not tell VMs apart */
  vmAt(address: string): string | undefined
  /** a connection has ended */
  onClosed(): void
}

/** Makes the server; the caller listens and closes. */
export function createAgentListener(upgrades: AgentUpgrades): Server {
  const server = createServer(
    {
      headersTimeout: LIMITS.authenticationMs,
      requestTimeout: LIMITS.authenticationMs,
      connectionsCheckingInterval: 1_000,
      maxHeaderSize: 16_384,
    },
    (_request, response) => response.writeHead(404, { connection: 'close', 'content-length': 0 }).end(),
  )
  // those that have not become WebSockets yet, by address
  new Connections().watch(server, upgrades.onClosed)
  boundConnections(server, upgrades)
  server.on('upgrade', (request: IncomingMessage, socket: Duplex, head: Buffer) => {
    const [path] = (request.url ?? '').split('?')
    if (path === AGENT_PATH) {
      acceptControl(request, socket, head, control => {
        const vm = upgrades.vmAt(control.address)
        upgrades.acceptAgent(vm === undefined ? control : { ...control, vm, proven: true })
      })
    } else if (path === JOIN_PATH) joinPair(request, socket, head, upgrades)
    else refuseUpgrade(socket, '404 Not Found')
  })
  return server
}

/** A VM whose address is its own keeps so many connections; one more is closed at once. */
function boundConnections(server: Server, { vmAt }: Pick<AgentUpgrades, 'vmAt'>): void {
  const open = new Map<string, number>()
  server.on('connection', socket => {
    const address = socket.remoteAddress ?? ''
    if (vmAt(address) === undefined) return
    const count = (open.get(address) ?? 0) + 1
    open.set(address, count)
    socket.once('close', () => {
      const left = (open.get(address) ?? 1) - 1
      if (left === 0) open.delete(address)
      else open.set(address, left)
    })
    if (count > MOST_CONNECTIONS_EACH) socket.destroy()
  })
}
