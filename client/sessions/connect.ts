/**
 * Opens a session with a VM's agent. What the broker says of the agent's key is believed only when the owner's certificate says
 * the same, when the boot was signed by the key that the certified one left for it, or when the agent proves at first contact
 * that it knows the launch secret; then it gets a certificate. SPEC §2.4, §2.8, §5.2
 */
import { launchCommitment } from '../../protocol/channel/derive.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { openCertificate } from '../../protocol/control/certificate.ts'
import { decodeBase64url, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { wipe } from '../../protocol/core/secret.ts'
import { type ClientSession, openSession } from '../../protocol/session.ts'
import type { BrokerApi } from '../broker/api.ts'
import { ownGrant } from '../grants/read-grants.ts'
import type { Host } from '../host/host.ts'
import type { Identity } from '../identity/identity.ts'
import { judgeBoot, type Standing } from '../vms/boots.ts'
import { certify } from '../vms/certify.ts'
import { knownAs } from '../vms/known-vms.ts'

export interface Connection {
  readonly session: ClientSession
  /** first: this session proved the agent and gave it its certificate */
  readonly contact: 'first' | 'known'
}

/**
 * Connects to a VM of one's own that is enrolled or ready. Fails with vm-state before that, denied for another's VM,
 * boot-unproven or boot-contested when the owner has to decide first,
 * owner-mismatch when the broker or the VM says that one's own VM is another's,
 * certificate-invalid or agent-key-mismatch when the broker or the network lies, vm-unreachable, handshake, timeout,
 * connection-lost.
 */
export async function connectVm(broker: BrokerApi, identity: Identity, host: Host, vm: Vm): Promise<Connection> {
  if (vm.owner !== encodeBase64url(identity.signKey)) throw strangerError(identity, vm)
  requireEnrolled(vm)
  const standing = standingOf(identity, host.suite, vm)
  await requireRemembered(broker, vm, standing)
  requireProven(standing, vm)
  const boot = standing.kind === 'certified' ? standing.certificate : standing.boot
  const contact = standing.kind === 'first' ? 'first' : 'known'
  const session = await openBootSession(broker, identity, host, vm, boot, { first: contact === 'first' })
  try {
    const { certificate } = standing
    const told = session.nextBoot
    // an agent whose next-boot key was stolen has made another
    const current = standing.kind === 'certified' && (!told || equalBytes(told, standing.certificate.nextBoot))
    if (!current) await certify({ broker, identity, host }, vm, { boot, session, last: certificate })
    else await broker.knownVms.write(vm.id, { launch: vm.launch, serial: standing.certificate.serial })
  } catch (thrown) {
    session.close()
    throw thrown
  }
  return { session, contact }
}

/** What the owner of a VM makes of what the broker shows. Fails with certificate-invalid, agent-key-mismatch. */
export function standingOf(identity: Identity, suite: Suite, vm: Vm): Standing {
  const secret = identity.launchSecret(vm.id, vm.launch)
  try {
    return judgeBoot(identity.signKey, vm, launchCommitment(suite, secret))
  } finally {
    wipe(secret)
  }
}

/** A broker that shows an older certificate than this device made or saw, or none, goes back to keys that were used up. Fails with certificate-invalid. */
async function requireRemembered(broker: BrokerApi, vm: Vm, { certificate }: Standing): Promise<void> {
  const known = await broker.knownVms.read(knownAs(vm, broker.user))
  if (known?.launch !== vm.launch || (certificate && certificate.serial >= known.serial)) return
  throw new MortarError('certificate-invalid', `${vm.name}: this device knows a newer one than the broker shows`)
}

/** Fails with boot-unproven or boot-contested. */
function requireProven(
  standing: Standing,
  vm: Vm,
): asserts standing is Exclude<Standing, { kind: 'unproven' | 'contested' }> {
  if (standing.kind === 'unproven') throw new MortarError('boot-unproven', vm.name)
  if (standing.kind === 'contested') throw new MortarError('boot-contested', vm.name)
}

/**
 * Connects to another's VM by the grant that one holds there. Whose VM it is only the broker says, so no key of a drive may
 * be sent in such a session. Fails as connectVm does, and with denied, grant-invalid or grant-expired; with vm-state until
 * the owner has connected to this boot.
 */
export async function connectGrantedVm(broker: BrokerApi, identity: Identity, host: Host, vm: Vm): Promise<Connection> {
  const { signed } = ownGrant(identity, vm, host.clock.now())
  requireEnrolled(vm)
  const standing = judgeBoot(decodeBase64url(vm.owner), vm, null)
  await requireRemembered(broker, vm, standing)
  if (standing.kind === 'contested') throw new MortarError('boot-contested', vm.name)
  if (standing.kind !== 'certified') {
    throw new MortarError('vm-state', `the owner of ${vm.name} has not connected since it booted`)
  }
  const { certificate } = standing
  const session = await openBootSession(broker, identity, host, vm, certificate, { grant: signed })
  try {
    await broker.knownVms.write(knownAs(vm, broker.user), { launch: vm.launch, serial: certificate.serial })
  } catch (thrown) {
    session.close()
    throw thrown
  }
  return { session, contact: 'known' }
}

/** A VM that one's own certificate speaks of is one's own, whatever the broker says. */
function strangerError(identity: Identity, vm: Vm): MortarError {
  const detail = `${vm.name} has another owner`
  try {
    const certificate = openCertificate(decodeBase64url(vm.certificate ?? ''), identity.signKey)
    if (certificate.vm === vm.id) return new MortarError('owner-mismatch', `${detail}, says the broker`)
  } catch {
    // another's certificate, or none
  }
  return new MortarError('denied', detail)
}

/** Fails with vm-state. */
function requireEnrolled(vm: Vm): asserts vm is Vm & { agent: NonNullable<Vm['agent']> } {
  if (!vm.agent || (vm.state !== 'enrolled' && vm.state !== 'ready')) {
    throw new MortarError('vm-state', `${vm.name} is ${vm.state}`)
  }
}

/** A session with the boot of these keys. `chosen`: it is not, or not yet, the one that sessions go to. */
export async function openBootSession(
  broker: BrokerApi,
  identity: Identity,
  host: Host,
  vm: Vm,
  { agentDh, agentSign }: { agentDh: Uint8Array; agentSign: Uint8Array },
  { first = false, chosen = false, grant }: { first?: boolean; chosen?: boolean; grant?: Uint8Array } = {},
): Promise<ClientSession> {
  const key = await broker.key()
  const { session, token } = await broker.createSession(
    vm.id,
    'channel',
    chosen ? encodeBase64url(agentSign) : undefined,
  )
  const transport = await host.openSocket(broker.joinUrl, token)
  const launchSecret = first ? identity.launchSecret(vm.id, vm.launch) : undefined
  try {
    return await openSession({
      transport,
      suite: host.suite,
      clock: host.clock,
      facts: { broker: key, vm: vm.id, launch: vm.launch, session },
      ownerKeys: identity.keys,
      agent: { dh: agentDh, sign: agentSign },
      contact: launchSecret ? { kind: 'first', launchSecret } : { kind: 'known' },
      ...(grant && { grant }),
    })
  } catch (thrown) {
    transport.close()
    throw sessionError(thrown, vm.name)
  } finally {
    wipe(launchSecret)
  }
}

/** A handshake that failed because the broker closed the socket with a reason is better told by that reason. */
function sessionError(thrown: unknown, name: string): MortarError {
  const error = asMortarError(thrown, 'handshake')
  const told = error.code === 'handshake' && error.cause instanceof MortarError ? error.cause : error
  return new MortarError(told.code, told.detail === '' ? name : `${name}: ${told.detail}`, { cause: thrown })
}
