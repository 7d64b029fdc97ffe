/** Launching: ticket checked → overlay → boot files → domain defined and started. Whatever fails, nothing is left behind. */
import { mkdir, rm, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import type { z } from 'zod'
import type { launchOptions } from '../../protocol/control/api.ts'
import { AGENT_PATH } from '../../protocol/control/sockets.ts'
import { checkTicketTime, type LaunchTicket, openTicket } from '../../protocol/control/ticket.ts'
import { encodeBase64url, encodeHex, equalBytes } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import type { User } from '../auth/login.ts'
import type { Bricks } from '../bricks/bricks.ts'
import type { DataDir } from '../data-dir.ts'
import type { HypervisorDriver, VmDefinition } from '../hypervisor/driver.ts'
import type { DiskRoom } from '../images/disk-room.ts'
import { createOverlay } from '../images/overlay.ts'
import { requireSpace } from '../images/volume.ts'
import type { GuestNetwork } from '../network/guest-network.ts'
import type { Serialiser } from '../process/serialise.ts'
import type { BrickRecord } from '../store/brick-store.ts'
import type { VmRecord } from '../store/vm-store.ts'
import { type HostFacts, requireHostRoom } from './host-room.ts'
import type { LauncherKey } from './launcher-key.ts'
import type { VmBook } from './vm-book.ts'

/** room that a launch needs at once: template, overlay, boot files, log; the overlay grows later */
const LAUNCH_BYTES = 16 * 2 ** 20
/** per user, stopped and failed ones too */
const MOST_VMS = 1_000

export interface LaunchParts {
  readonly book: VmBook
  readonly bricks: Bricks
  readonly driver: HypervisorDriver
  readonly dataDir: DataDir
  readonly clock: Clock
  readonly brokerId: Uint8Array
  readonly launcherKey: LauncherKey
  readonly network: GuestNetwork
  readonly networkKind: VmRecord['network']
  readonly enrolWithinMs: number
  readonly serialiser: Serialiser
  readonly host: HostFacts
  readonly diskRoom: DiskRoom
}

export interface LaunchRequest {
  readonly options: z.output<typeof launchOptions>
  /** signed ticket */
  readonly ticket: Uint8Array
  /** launch secret, sealed to the launcher */
  readonly sealedSecret: Uint8Array
}

/** Launches a VM and returns when its domain runs. Fails with ticket-*, brick-unknown, vm-exists, launcher-changed, limit-exceeded, no-space, host-full, libvirt-*, qemu-missing, network-unusable. */
export async function launch(parts: LaunchParts, user: User, request: LaunchRequest): Promise<VmRecord> {
  const { book, driver } = parts
  const ticket = openTicket(request.ticket)
  check(parts, user, ticket)
  const secret = parts.launcherKey.open(request.sealedSecret, ticket.vm, ticket.launch)
  try {
    brickOf(parts, ticket, request.options.brick)
    await requireSpace(parts.dataDir.root, LAUNCH_BYTES)
    await driver.describe()
    await parts.network.requireUp()
    // the brick may have been deleted meanwhile; from here on the record keeps it
    const brick = brickOf(parts, ticket, request.options.brick)
    const record = newRecord(parts, ticket, brick, request)
    // in one step with the record, so that two launches are not promised the same
    requireHostRoom(parts.host, book.list().filter(mayRun), record)
    parts.diskRoom.require(parts.dataDir.root, brick.virtualSizeBytes)
    book.add(record, ticket.expires)
    // whoever deletes the VM from here on waits until it runs
    await parts.serialiser.run(record.id, () => makeAndStart(parts, record, brick, [request.ticket, secret]))
    return book.get(record.id) ?? record
  } finally {
    wipe(secret)
  }
}

/** One that failed, or whose end is not known yet, may hold all that it was given. */
const mayRun = ({ state }: VmRecord) => state !== 'stopped' && state !== 'destroyed'

function check(parts: LaunchParts, user: User, ticket: LaunchTicket): void {
  checkTicketTime(ticket, parts.clock.now())
  if (encodeBase64url(ticket.owner) !== user.key)
    throw new MortarError('ticket-invalid', 'its owner is not who logged in')
  if (!equalBytes(ticket.broker, parts.brokerId)) throw new MortarError('ticket-invalid', 'it is for another broker')
  if (parts.book.countOf(user.key) >= MOST_VMS) throw new MortarError('limit-exceeded', `${MOST_VMS} VMs`)
}

function brickOf(parts: LaunchParts, ticket: LaunchTicket, brickName: string): BrickRecord {
  const brick = parts.bricks.byDigest(encodeHex(ticket.brick))
  if (brick?.name !== brickName) throw new MortarError('brick-unknown', brickName)
  return brick
}

function newRecord(parts: LaunchParts, ticket: LaunchTicket, brick: BrickRecord, { options }: LaunchRequest): VmRecord {
  return {
    id: ticket.vm,
    name: options.name,
    state: 'defined',
    revision: 1,
    owner: encodeBase64url(ticket.owner),
    ownerDh: encodeBase64url(ticket.ownerDh),
    brick: brick.name,
    brickSha256: brick.sha256,
    launch: ticket.launch,
    commitment: encodeBase64url(ticket.commitment),
    createdAt: new Date(parts.clock.now()).toISOString(),
    memoryMiB: options.memoryMiB,
    vcpus: options.vcpus,
    slot: parts.network.freeSlot(parts.book.slots()),
    network: parts.networkKind,
    failure: null,
    agent: null,
    boots: [],
    waiting: [],
    deadline: null,
    certificate: null,
    formerCertificate: null,
    events: [],
  }
}

async function makeAndStart(
  parts: LaunchParts,
  record: VmRecord,
  brick: BrickRecord,
  bootData: readonly [ticket: Uint8Array, secret: Uint8Array],
): Promise<void> {
  const folder = parts.dataDir.vm(record.id)
  let defined = false
  try {
    await mkdir(folder, { mode: 0o711 })
    const { network, guestAddress } = await parts.network.placeOf(record.slot ?? 0)
    const definition = { ...definitionOf(parts, record), network }
    await createOverlay(parts.bricks.pathOf(brick.sha256), parts.dataDir.templates, definition.overlayPath)
    const broker = Buffer.from(JSON.stringify({ url: agentUrlOf(parts.network, record) }))
    const contents = [...bootData, broker, Buffer.from(`${guestAddress}\n`)]
    for (const [index, file] of definition.bootFiles.entries()) {
      await writeFile(file.path, contents[index] as Uint8Array, { mode: 0o600, flag: 'wx' })
    }
    defined = true
    await parts.driver.define(definition)
    // before the start, since a fast guest enrols before start() returns
    const deadline = parts.clock.now() + parts.enrolWithinMs
    parts.book.transition(record.id, 'booting', 'domain started', { deadline })
    await parts.driver.start(record.id)
    // QEMU has read it; from here on the secret is in the guest and with its owner only
    await removeSecret(parts.dataDir, record.id)
  } catch (cause) {
    await undo(parts, record.id, defined)
    throw (cause as NodeJS.ErrnoException).code === 'ENOSPC'
      ? new MortarError('no-space', folder, { cause })
      : asMortarError(cause)
  }
}

/** Says which VM dials, so that the sockets of no other count against it. */
function agentUrlOf({ origin }: GuestNetwork, { id }: VmRecord): string {
  const url = new URL(AGENT_PATH, origin.replace(/^http/, 'ws'))
  url.searchParams.set('vm', id)
  return url.href
}

/** Takes a launch back. A domain that cannot be removed now stays on the books as failed, so that it can be deleted later. */
async function undo(parts: LaunchParts, id: string, defined: boolean): Promise<void> {
  try {
    await removeSecret(parts.dataDir, id)
    if (defined) await demolish(parts, id)
    else await rm(parts.dataDir.vm(id), { recursive: true, force: true })
    parts.book.remove(id)
  } catch (cause) {
    const failure = { stage: 'launch', reason: asMortarError(cause).message.slice(0, 400), consoleTail: '' }
    parts.book.transition(id, 'failed', 'the launch could not be taken back', { failure })
  }
}

/** Removes the launch secret from the disk, if it is there. */
export async function removeSecret(dataDir: DataDir, id: string): Promise<void> {
  await rm(join(dataDir.vm(id), 'mortar.secret'), { force: true })
}

/** The system disk of a VM. */
export function overlayPath(dataDir: DataDir, id: string): string {
  return join(dataDir.vm(id), 'overlay.qcow2')
}

/** How the hypervisor is told of a VM. */
function definitionOf(
  { dataDir, bricks }: Pick<LaunchParts, 'dataDir' | 'bricks'>,
  record: VmRecord,
): Omit<VmDefinition, 'network'> {
  const folder = dataDir.vm(record.id)
  const bootFile = (name: string) => ({ name, path: join(folder, name) })
  return {
    vmId: record.id,
    name: record.name,
    memoryMiB: record.memoryMiB,
    vcpus: record.vcpus,
    overlayPath: overlayPath(dataDir, record.id),
    brickPath: bricks.pathOf(record.brickSha256),
    consoleLogPath: join(folder, 'console.log'),
    bootFiles: ['mortar.ticket', 'mortar.secret', 'mortar.broker', 'mortar.network'].map(bootFile),
  }
}

/** Removes domain, overlay and boot data of a VM, whatever of them there is. Fails with libvirt-* and leaves the files then. */
export async function demolish(
  { driver, dataDir }: Pick<LaunchParts, 'driver' | 'dataDir'>,
  id: string,
): Promise<void> {
  for (const step of [() => driver.destroy(id), () => driver.undefine(id)]) {
    await step().catch(cause => {
      if (asMortarError(cause).code !== 'not-found') throw cause
    })
  }
  await rm(dataDir.vm(id), { recursive: true, force: true })
}
