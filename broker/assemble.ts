/** The broker's parts, each given what it needs: the one place that knows the whole. Nothing in here listens. */
import { signLauncherKey } from '../protocol/control/launcher.ts'
import { encodeBase64url } from '../protocol/core/bytes.ts'
import type { Clock } from '../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { wipe } from '../protocol/core/secret.ts'
import { Agents } from './agents/agents.ts'
import { Login } from './auth/login.ts'
import { Bricks } from './bricks/bricks.ts'
import type { Config } from './config.ts'
import { brokerSeed, type DataDir, openDataDir } from './data-dir.ts'
import { Drives } from './drives/drives.ts'
import type { Services } from './http/handlers.ts'
import type { HypervisorDriver } from './hypervisor/driver.ts'
import { collectWhenIdle } from './idle.ts'
import type { Log } from './log.ts'
import { Relay } from './relay/relay.ts'
import { Serialiser } from './serialise.ts'
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

export interface BrokerParts {
  readonly config: Config
  readonly driver: HypervisorDriver
  readonly clock: Clock
  readonly log: Log
}

/** Where the broker is reached; known, and set, once it listens. */
export interface Place {
  agentUrl: string
  ssh: { readonly port: number; readonly hostKey: string } | null
}

export interface Assembled {
  /** Ed25519 key, base64url */
  readonly id: string
  readonly dataDir: DataDir
  readonly services: Services
  readonly agents: Agents
  readonly relay: Relay
  /** to be called whenever something happens */
  happened(): void
  /** Ends sessions and sockets of agents, in order. */
  sayGoodbye(): void
  /** Lets go of hypervisor, database and key. */
  release(): void
}

/** Opens the data and puts the parts together. Fails with data-unusable, data-taken or no-space. */
export function assemble({ config, driver, clock, log }: BrokerParts, place: Place): Assembled {
  const dataDir = openDataDir(config.dataDir)
  const database = openDatabase(dataDir.database)
  const seed = brokerSeed(dataDir)
  const stores = {
    vms: new VmStore(database),
    drives: new DriveStore(database),
    grants: new GrantStore(database),
    bricks: new BrickStore(database),
    sshKeys: new SshKeyStore(database),
  }
  stores.vms.forgetExpiredLaunches(Math.floor(clock.now() / 1000))
  const login = new Login(seed, config, clock)
  const launcherKey = new LauncherKey()
  const serialiser = new Serialiser()
  const common = { dataDir, clock, log, serialiser }

  const book = new VmBook({
    store: stores.vms,
    drives: stores.drives,
    grants: stores.grants,
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
  const lifecycle: Lifecycle = new Lifecycle({
    ...common,
    book,
    driver,
    drives: stores.drives,
    enrolWithinMs: config.enrolWithinMs,
    disconnect(vmId) {
      agents.disconnect(vmId)
      relay.closeVm(vmId)
    },
    forget: vmId => agents.forget(vmId),
  })
  const inUse = (sha256: string) => book.list().some(vm => vm.brickSha256 === sha256)
  const bricks = new Bricks({ ...common, store: stores.bricks, builders: config.builders, inUse })

  const services: Services = {
    login,
    book,
    bricks,
    drives: new Drives({ ...common, store: stores.drives, book, driver }),
    driveStore: stores.drives,
    sshKeys: stores.sshKeys,
    lifecycle,
    grants: new Grants(stores.grants, clock),
    dataDir,
    openPair(user, vmId, kind) {
      const vm = book.get(vmId)
      if (!agents.connected(vmId)) throw new MortarError('vm-unreachable', vm?.name ?? vmId)
      const { session, clientToken, agentToken } = relay.open({ vmId, user, isOwner: vm?.owner === user })
      agents.offer(vmId, { session, token: agentToken, kind, user })
      return { session, token: clientToken }
    },
    describe: describer(driver, { seed, id: login.id, launcherKey }, place),
    launch(user, request) {
      const { agentUrl } = place
      const { enrolWithinMs } = config
      const parts = { ...common, book, bricks, driver, brokerId: login.id, launcherKey, agentUrl, enrolWithinMs }
      return serialiser.run(`launch ${user.key}`, () => launch(parts, user, request))
    },
  }
  return {
    id: encodeBase64url(login.id),
    dataDir,
    services,
    agents,
    relay,
    happened,
    sayGoodbye() {
      lifecycle.close()
      agents.close()
      relay.close()
    },
    release() {
      driver.close()
      database.close()
      wipe(seed)
    },
  }
}

/** What the broker says of itself to anybody. */
function describer(
  driver: HypervisorDriver,
  { seed, id, launcherKey }: { seed: Uint8Array; id: Uint8Array; launcherKey: LauncherKey },
  place: Place,
): Services['describe'] {
  const known = {
    id: encodeBase64url(id),
    version: VERSION,
    launcher: {
      key: encodeBase64url(launcherKey.publicKey),
      signature: encodeBase64url(signLauncherKey(launcherKey.publicKey, seed)),
    },
  }
  return async () => {
    const { acceleration, reason } = await driver
      .describe()
      .catch(cause => ({ acceleration: 'unknown' as const, reason: asMortarError(cause).message.slice(0, 400) }))
    return { ...known, acceleration, accelerationReason: reason, ssh: place.ssh }
  }
}
