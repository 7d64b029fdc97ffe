/** The broker's parts, each given what it needs: the one place that knows the whole. Nothing in here listens. */
import { signLauncherKey } from '../protocol/control/launcher.ts'
import { encodeBase64url } from '../protocol/core/bytes.ts'
import type { Clock } from '../protocol/core/clock.ts'
import { asMortarError } from '../protocol/core/errors.ts'
import { wipe } from '../protocol/core/secret.ts'
import { Agents } from './agents/agents.ts'
import { certify } from './agents/certify.ts'
import { Login } from './auth/login.ts'
import { Bricks } from './bricks/bricks.ts'
import type { Config } from './config.ts'
import { brokerSeed, type DataDir, openDataDir } from './data-dir.ts'
import { Drives, drivePath } from './drives/drives.ts'
import type { Services } from './http/handlers.ts'
import type { HypervisorDriver } from './hypervisor/driver.ts'
import { hostMemory } from './hypervisor/host-memory.ts'
import { DiskRoom } from './images/disk-room.ts'
import type { GuestNetwork } from './network/guest-network.ts'
import { createNetwork } from './network/network.ts'
import { collectWhenIdle } from './process/idle.ts'
import type { Log } from './process/log.ts'
import { Serialiser } from './process/serialise.ts'
import { Relay } from './relay/relay.ts'
import { SshKeys } from './ssh/keys.ts'
import { BrickStore } from './store/brick-store.ts'
import { openDatabase } from './store/database.ts'
import { DriveStore } from './store/drive-store.ts'
import { GrantStore } from './store/grant-store.ts'
import { SshKeyStore } from './store/ssh-key-store.ts'
import { VmStore } from './store/vm-store.ts'
import { Grants } from './vms/grants.ts'
import { type HostFacts, hostFacts } from './vms/host-room.ts'
import { launch, overlayPath } from './vms/launch.ts'
import { LauncherKey } from './vms/launcher-key.ts'
import { Lifecycle } from './vms/lifecycle.ts'
import { RUNNING } from './vms/states.ts'
import { VmBook } from './vms/vm-book.ts'

declare const MORTAR_VERSION: string | undefined
export const VERSION = typeof MORTAR_VERSION === 'undefined' ? '0.0.0-dev' : MORTAR_VERSION

/** ms for which what the hypervisor said of itself is believed */
const DESCRIBED_MS = 1_000
/** what the owner of a VM reads that was launched on a network which the broker has no more */
const OTHER_NETWORK = {
  open: 'launched by an older version on a network that is not confined: its agent cannot reach the broker any more. Delete it',
  isolated:
    'launched on the isolated network, which the broker is not configured for any more: its agent cannot reach it',
  user: 'launched on user networking, which the broker is not configured for any more: its agent cannot reach it',
} as const

export interface BrokerParts {
  readonly config: Config
  readonly driver: HypervisorDriver
  readonly clock: Clock
  readonly log: Log
  /** what the host has; looked at unless given */
  readonly host?: HostFacts
  /** instead of the network of the configuration: for tests without a host to change */
  readonly network?: GuestNetwork
}

/** Where the broker is reached; known, and set, once it listens. */
export interface Place {
  ssh: { readonly port: number; readonly hostKey: string } | null
  /** Ends connections at the jump host that are logged in by the key. */
  dropSshKey(key: string): void
}

export interface Assembled {
  /** Ed25519 key, base64url */
  readonly id: string
  readonly dataDir: DataDir
  readonly services: Services
  readonly agents: Agents
  readonly relay: Relay
  readonly network: GuestNetwork
  /** The VM that dials from this address, where addresses tell. */
  vmAt(address: string): string | undefined
  /** Tells the owners of VMs that run on another network than the configured one. */
  noteOtherNetworks(): void
  /** Whether a VM is left that may run. */
  anyRuns(): Promise<boolean>
  /** to be called whenever something happens */
  happened(): void
  /** Ends sessions and sockets of agents, in order. */
  sayGoodbye(): void
  /** Lets go of hypervisor, database and key. */
  release(): void
}

/** Opens the data and puts the parts together. Fails with data-unusable, data-taken or no-space. */
export function assemble(given: BrokerParts, place: Place): Assembled {
  const { config, driver, clock, log } = given
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
  const network = given.network ?? createNetwork({ config, driver, log, brokerId: login.id })
  const launcherKey = new LauncherKey()
  const serialiser = new Serialiser()
  const diskRoom = new DiskRoom(
    () => promisesOf(dataDir, stores),
    () => clock.now(),
  )
  const common = { dataDir, clock, log, serialiser, diskRoom }

  const book = new VmBook({
    store: stores.vms,
    drives: stores.drives,
    grants: stores.grants,
    clock,
    log,
    connected: (id, agentSign) => agents.connected(id, agentSign),
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
    sshKeys: new SshKeys(stores.sshKeys, clock, key => place.dropSshKey(key)),
    sshUsersOf: key => stores.sshKeys.ownersOf(key),
    lifecycle,
    grants: new Grants(stores.grants, clock),
    certify: (record, textual) => certify({ book, agents }, record, textual),
    dataDir,
    openPair(user, vmId, kind, agent) {
      const vm = book.get(vmId)
      const agentSign = agents.target(vmId, agent)
      const { session, clientToken, agentToken } = relay.open({ vmId, user, isOwner: vm?.owner === user })
      agents.offer(vmId, agentSign, { session, token: agentToken, kind, user })
      return { session, token: clientToken }
    },
    describe: describer(driver, { seed, id: login.id, launcherKey, clock }, place),
    launch(user, request) {
      const { enrolWithinMs, network: networkKind } = config
      const made = { book, bricks, driver, brokerId: login.id, launcherKey, network, networkKind, enrolWithinMs }
      const parts = { ...common, ...made, host: given.host ?? hostFacts() }
      return serialiser.run(`launch ${user.key}`, () => launch(parts, user, request))
    },
  }
  return {
    id: encodeBase64url(login.id),
    dataDir,
    services,
    agents,
    relay,
    network,
    vmAt(address) {
      const slot = network.slotOf(address)
      return slot === undefined ? undefined : book.slots().get(slot)
    },
    noteOtherNetworks() {
      for (const { id, network: launchedOn, state } of book.list()) {
        if (launchedOn === config.network || !RUNNING.has(state)) continue
        book.note(id, OTHER_NETWORK[launchedOn])
        log.warn('network.other', { vm: id, network: launchedOn })
      }
    },
    async anyRuns() {
      const known = new Set(book.list().map(({ id }) => id))
      // where the hypervisor cannot be asked, any VM may run
      const domains = await driver.list().catch(() => [...known].map(vmId => ({ vmId, state: 'running' as const })))
      return domains.some(({ vmId, state }) => known.has(vmId) && state !== 'stopped')
    },
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

/** What every file may grow to that guests write to. */
function promisesOf(
  dataDir: DataDir,
  { drives, vms, bricks }: { drives: DriveStore; vms: VmStore; bricks: BrickStore },
): { path: string; mostBytes: number }[] {
  const ofBrick = new Map(bricks.list().map(brick => [brick.sha256, brick.virtualSizeBytes]))
  return [
    ...drives.list().map(drive => ({ path: drivePath(dataDir, drive.id), mostBytes: drive.sizeBytes })),
    ...vms.list().map(vm => ({ path: overlayPath(dataDir, vm.id), mostBytes: ofBrick.get(vm.brickSha256) ?? 0 })),
  ]
}

/** What the broker says of itself to anybody. */
function describer(
  driver: HypervisorDriver,
  { seed, id, launcherKey, clock }: { seed: Uint8Array; id: Uint8Array; launcherKey: LauncherKey; clock: Clock },
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
  const ask = async () => {
    const { swap } = hostMemory()
    try {
      const { acceleration, reason, locksMemory } = await driver.describe()
      return { acceleration, accelerationReason: reason, hostMemory: { locked: locksMemory, swap } }
    } catch (cause) {
      const reason = asMortarError(cause).message.slice(0, 400)
      return { acceleration: 'unknown' as const, accelerationReason: reason, hostMemory: { locked: false, swap } }
    }
  }
  // strangers may ask, and the hypervisor is not asked each time
  let asked = { at: Number.NEGATIVE_INFINITY, answer: ask }
  return async () => {
    const age = clock.now() - asked.at
    if (age < 0 || age > DESCRIBED_MS) {
      const answer = ask()
      asked = { at: clock.now(), answer: () => answer }
    }
    return { ...known, ...(await asked.answer()), ssh: place.ssh }
  }
}
