/** Starts the broker: its parts put together, its sockets opened, and all of it ended again. */
import type { Server } from 'node:http'
import type { Socket } from 'node:net'
import { accountOf } from '../protocol/control/account.ts'
import { decodeBase64url } from '../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { LIMITS } from '../protocol/core/limits.ts'
import { type Assembled, assemble, type BrokerParts, type Place, VERSION } from './assemble.ts'
import type { Address } from './config.ts'
import { createAgentListener } from './http/agent-listener.ts'
import { createApp } from './http/app.ts'
import { Connections } from './http/connections.ts'
import type { Services } from './http/handlers.ts'
import { createListener, listen } from './http/listener.ts'
import { RateLimit } from './http/rate-limit.ts'
import { dialPair } from './http/websocket.ts'
import { createJumpHost, type JumpHost } from './ssh/jump-host.ts'

export { type BrokerParts, VERSION }

/** login at the jump host that stands for all who named the key */
const ANYBODY = 'mortar'
/** ms that sockets have to close when the broker stops */
const GOODBYE_MS = 1_000

export interface Broker {
  /** http://host:port */
  readonly origin: string
  /** http://host:port where agents are taken */
  readonly agents: string
  /** host:port of the jump host, or null */
  readonly ssh: string | null
  /** Ed25519 key, base64url */
  readonly id: string
  /** Stops listening; VMs go on running. */
  close(): Promise<void>
}

/** Starts the broker. Fails with data-unusable, data-taken, no-space, bad-config, address-unusable, port-taken or network-unusable. */
export async function startBroker(parts: BrokerParts): Promise<Broker> {
  const { config, log } = parts
  const place: Place = { ssh: null, dropSshKey: key => jumpHost?.drop(key) }
  const assembled = assemble(parts, place)
  const { id, services, dataDir, network } = assembled
  const server = createServer(parts, assembled)
  const agentServer = createAgentListener({
    acceptAgent: socket => assembled.agents.accept(socket),
    spendToken: token => assembled.relay.spend(token),
    vmAt: address => assembled.vmAt(address),
    onClosed: assembled.happened,
  })
  const closeServers = [closing(server), closing(agentServer)]
  let jumpHost: JumpHost | undefined

  const close = async () => {
    assembled.sayGoodbye()
    jumpHost?.close()
    await Promise.all(closeServers.map(closeServer => closeServer()))
    await leaveNetwork(assembled, log)
    assembled.release()
  }

  try {
    // before anybody can call
    services.lifecycle.resume()
    assembled.noteOtherNetworks()
    await services.bricks.removeLeftovers()
    const port = await listen(server, config.listen)
    const origin = originOf({ ...config.listen, port })
    let agents = ''
    await network.start(async address => {
      const bound = { host: address.host, port: await listen(agentServer, address) }
      agents = originOf(bound)
      return bound
    })
    if (config.sshListen) {
      jumpHost = await createJumpHost({
        keyPath: dataDir.sshHostKey,
        log,
        onClosed: assembled.happened,
        usersOf: (key, login) => services.sshUsersOf(key).filter(user => isLoginOf(login, user)),
        connect(users, vm) {
          const { user, id } = vmForSsh(services, users, vm)
          return dialPair(origin, services.openPair(user, id, 'ssh').token)
        },
      })
      place.ssh = { port: await listen(jumpHost.server, config.sshListen), hostKey: jumpHost.hostKey }
    }
    log.info('broker.started', { origin, agents, network: config.network, version: VERSION, id })
    return { origin, agents, ssh: place.ssh ? `${config.sshListen?.host}:${place.ssh.port}` : null, id, close }
  } catch (cause) {
    await close()
    throw cause
  }
}

function createServer({ config, clock, log }: BrokerParts, { services, relay, happened }: Assembled): Server {
  const connections = new Connections()
  const app = createApp({
    services,
    log,
    origins: config.origins,
    users: new RateLimit(clock, { burst: LIMITS.requestsAtOnce, perSecond: LIMITS.requestsPerSecond }),
    connections,
    onAnswered: happened,
  })
  return createListener((request, bindings) => app.fetch(request, bindings as object), {
    connections,
    joins: { spendToken: token => relay.spend(token) },
    onClosed: happened,
  })
}

const originOf = ({ host, port }: Address) => `http://${host.includes(':') ? `[${host}]` : host}:${port}`

/** The network stays for VMs that go on running. */
async function leaveNetwork({ network, anyRuns }: Assembled, log: BrokerParts['log']): Promise<void> {
  try {
    await network.close(await anyRuns())
  } catch (cause) {
    const { code, message } = asMortarError(cause)
    log.warn('network.failed', { code, message })
  }
}

/** Returns what closes the server with all its sockets, upgraded ones too. */
function closing(server: Server): () => Promise<void> {
  const sockets = new Set<Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })
  return () =>
    new Promise(resolve => {
      server.close(() => resolve())
      server.closeAllConnections()
      // upgraded sockets are told that the broker goes away; who does not listen is not waited for
      setTimeout(() => {
        for (const socket of sockets) socket.destroy()
      }, GOODBYE_MS)
    })
}

/** At the jump host a user is called as in VMs, or like everybody. */
function isLoginOf(login: string, user: string): boolean {
  return login === ANYBODY || login === accountOf(decodeBase64url(user)).name
}

/** The VM that the holders of an SSH key mean, and which of them it is for. Fails with not-found. */
function vmForSsh({ book, grants }: Services, users: readonly string[], vm: string): { user: string; id: string } {
  const found = users.flatMap(user => {
    const record = book.find(user, vm)
    const mine = record?.owner === user || (record && grants.permissionsOf(user, record.id)?.includes('ssh'))
    return mine ? [{ user, id: record.id }] : []
  })
  const [first] = found
  // a name that two of them use leads nowhere; an id is one VM's
  if (!first || found.some(({ id }) => id !== first.id)) throw new MortarError('not-found', `VM ${vm}`)
  return first
}
