/** The broker, put together: every part gets here what it needs, and nothing else knows the whole. */
import type { Socket } from 'node:net'
import { signLauncherKey } from '../protocol/control/launcher.ts'
import { encodeBase64url } from '../protocol/core/bytes.ts'
import type { Clock } from '../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { wipe } from '../protocol/core/secret.ts'
import { Agents } from './agents/agents.ts'
import { Login } from './auth/login.ts'
import { Bricks } from './bricks/bricks.ts'
import type { Config } from './config.ts'
import { brokerSeed, openDataDir } from './data-dir.ts'
import { Drives } from './drives/drives.ts'
import { createApp } from './http/app.ts'
import type { Services } from './http/handlers.ts'
import { createListener, listen } from './http/listener.ts'
import { RateLimit } from './http/rate-limit.ts'
import { dialPair } from './http/websocket.ts'
import type { HypervisorDriver } from './hypervisor/driver.ts'
import { collectWhenIdle } from './idle.ts'
import type { Log } from './log.ts'
import { Relay } from './relay/relay.ts'
import { Serialiser } from './serialise.ts'
import { createJumpHost, type JumpHost } from './ssh/jump-host.ts'
import { BrickStore } from './store/brick-store.ts'
import { openDatabase } from './store/database.ts'
import { DriveStore } from './store/drive-store.ts'
import { GrantStore } from './store/grant-store.ts'
import { SshKeyStore } from './store/ssh-key-store.ts'
import { VmStore } from './store/vm-store.ts'
import { Grants } from './vms/grants.ts'
import { launch } from './vms/launch.ts'
import { LauncherKey } from './vms/launcher-key.ts'
import { Lifecycle } from './vms/lifecycle.ts'
import { VmBook } from './vms/vm-book.ts'

declare const MORTAR_VERSION: string | undefined
export const VERSION = typeof MORTAR_VERSION === 'undefined' ? '0.0.0-dev' : MORTAR_VERSION

/** ms that sockets have to close when the broker stops */
const GOODBYE_MS = 1_000

export interface Broker {
  /** http://host:port */
  readonly origin: string
  /** host:port of the jump host, or null */
  readonly ssh: string | null
  /** Ed25519 key, base64url */
  readonly id: string
  /** Stops listening; VMs go on running. */
  close(): Promise<void>
}

export interface BrokerParts {
  readonly config: Config
  readonly driver: HypervisorDriver
  readonly clock: Clock
  readonly log: Log
}

/** Starts the broker. Fails with data-unusable, data-taken, no-space, bad-config, address-unusable or port-taken. */
export async function startBroker({ config, driver, clock, log }: BrokerParts): Promise<Broker> {
  const dataDir = openDataDir(config.dataDir)
  const database = openDatabase(dataDir.database)
  const seed = brokerSeed(dataDir)
  const launcherKey = new LauncherKey()
  const launcher = {
    key: encodeBase64url(launcherKey.publicKey),
    signature: encodeBase64url(signLauncherKey(launcherKey.publicKey, seed)),
  }
  const login = new Login(seed, config, clock)
  const vmStore = new VmStore(database)
  const driveStore = new DriveStore(database)
  const sshKeys = new SshKeyStore(database)
  const grantStore = new GrantStore(database)
  const grants = new Grants(grantStore, clock)
  const serialiser = new Serialiser()
  vmStore.forgetExpiredLaunches(Math.floor(clock.now() / 1000))

  const book = new VmBook({
    store: vmStore,
    drives: driveStore,
    grants: grantStore,
    clock,
    log,
    connected: id => agents.connected(id),
  })
  const happened = collectWhenIdle(clock)
  const relay = new Relay({
    clock,
    onJoined: ({ session, vmId }) => log.info('pair.joined', { session, vm: vmId }),
    onEnded({ session, vmId, ...bytes }) {
      log.info('pair.ended', { session, vm: vmId, ...bytes })
      happened()
    },
  })
  const agents: Agents = new Agents({
    book,
    clock,
    log,
    brokerId: login.id,
    onEnrolled: record => lifecycle.watchDeadline(record),
    onDeclined: (vmId, session, code) => relay.fail(vmId, session, code),
  })
  const disconnect = (vmId: string) => {
    agents.disconnect(vmId)
    relay.closeVm(vmId)
  }
  const lifecycle: Lifecycle = new Lifecycle({
    book,
    driver,
    drives: driveStore,
    dataDir,
    clock,
    log,
    serialiser,
    enrolWithinMs: config.enrolWithinMs,
    disconnect,
    forget: vmId => agents.forget(vmId),
  })
  const inUse = (sha256: string) => book.list().some(vm => vm.brickSha256 === sha256)
  const bricks = new Bricks({
    store: new BrickStore(database),
    dataDir,
    clock,
    log,
    builders: config.builders,
    serialiser,
    inUse,
  })
  const drives = new Drives({ store: driveStore, book, driver, dataDir, clock, log, serialiser })

  const openPair = (vmId: string, kind: 'channel' | 'ssh') => {
    if (!agents.connected(vmId)) throw new MortarError('vm-unreachable', book.get(vmId)?.name ?? vmId)
    const { session, clientToken, agentToken } = relay.open(vmId)
    agents.offer(vmId, { session, token: agentToken, kind })
    return { session, token: clientToken }
  }

  let origin = ''
  let agentUrl = ''
  let jumpHost: JumpHost | undefined
  let sshPort: number | undefined
  const services: Services = {
    login,
    book,
    bricks,
    drives,
    driveStore,
    sshKeys,
    lifecycle,
    grants,
    dataDir,
    openPair,
    async describe() {
      const { acceleration, reason } = await driver
        .describe()
        .catch(cause => ({ acceleration: 'unknown' as const, reason: asMortarError(cause).message.slice(0, 400) }))
      const ssh = jumpHost && sshPort ? { port: sshPort, hostKey: jumpHost.hostKey } : null
      return {
        id: encodeBase64url(login.id),
        version: VERSION,
        launcher,
        acceleration,
        accelerationReason: reason,
        ssh,
      }
    },
    launch: (user, request) =>
      serialiser.run(`launch ${user.key}`, () =>
        launch(
          {
            book,
            bricks,
            driver,
            dataDir,
            clock,
            brokerId: login.id,
            launcherKey,
            agentUrl,
            enrolWithinMs: config.enrolWithinMs,
            serialiser,
          },
          user,
          request,
        ),
      ),
  }
  const app = createApp({
    services,
    log,
    origins: config.origins,
    strangers: new RateLimit(clock, { burst: 60, perSecond: 5 }),
    onAnswered: happened,
  })
  const server = createListener((request, bindings) => app.fetch(request, bindings as object), {
    acceptAgent: socket => agents.accept(socket),
    spendToken: token => relay.spend(token),
  })

  const sockets = new Set<Socket>()
  server.on('connection', socket => {
    sockets.add(socket)
    socket.once('close', () => sockets.delete(socket))
  })

  const close = async () => {
    lifecycle.close()
    agents.close()
    relay.close()
    jumpHost?.close()
    await new Promise<void>(resolve => {
      server.close(() => resolve())
      server.closeAllConnections()
      // upgraded sockets are told that the broker goes away; who does not listen is not waited for
      setTimeout(() => {
        for (const socket of sockets) socket.destroy()
      }, GOODBYE_MS)
    })
    driver.close()
    database.close()
    wipe(seed)
  }

  try {
    // before anybody can call
    lifecycle.resume()
    await bricks.removeLeftovers()
    const port = await listen(server, config.listen)
    const host = config.listen.host.includes(':') ? `[${config.listen.host}]` : config.listen.host
    origin = `http://${host}:${port}`
    // QEMU's user networking shows the host's loopback to the guest under this address
    agentUrl = config.agentUrl ?? `ws://10.0.2.2:${port}/v1/agent`
    if (config.sshListen) {
      const parts = { keyPath: dataDir.sshHostKey, log, usersOf: (key: string) => sshKeys.ownersOf(key) }
      jumpHost = await createJumpHost({
        ...parts,
        connect(users, vm) {
          const found = users.flatMap(user => {
            const record = book.find(user, vm)
            const mine = record?.owner === user || (record && grants.permissionsOf(user, record.id)?.includes('ssh'))
            return mine ? [record] : []
          })
          // a name that two of them use leads nowhere; an id is one VM's
          const [record, ...others] = new Map(found.map(each => [each.id, each])).values()
          if (!record || others.length > 0) throw new MortarError('not-found', `VM ${vm}`)
          return dialPair(origin, openPair(record.id, 'ssh').token)
        },
      })
      sshPort = await listen(jumpHost.server, config.sshListen)
    }
  } catch (cause) {
    await close()
    throw cause
  }
  const id = encodeBase64url(login.id)
  log.info('broker.started', { origin, version: VERSION, id })
  return { origin, ssh: sshPort ? `${config.sshListen?.host}:${sshPort}` : null, id, close }
}
