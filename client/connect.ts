/**
 * Opens a session with a VM's agent. What the broker says of the agent's key is believed only when the owner's
 * certificate says the same, or when the agent proves that it knows the launch secret; then it gets a certificate.
 * SPEC §2.4, §5.2
 */
import type { Vm } from '../protocol/control/api.ts'
import { type AgentCertificate, openCertificate, signCertificate } from '../protocol/control/certificate.ts'
import { decodeBase64url, encodeBase64url, equalBytes } from '../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import { wipe } from '../protocol/core/secret.ts'
import { type ClientSession, openSession } from '../protocol/session.ts'
import type { BrokerApi } from './broker-api.ts'
import type { Host } from './host.ts'
import type { Identity } from './identity.ts'
import { ownGrant } from './read-grants.ts'

export interface Connection {
  readonly session: ClientSession
  /** first: this session proved the agent and gave it its certificate */
  readonly contact: 'first' | 'known'
}

/**
 * Connects to a VM of one's own that is enrolled or ready. Fails with vm-state before that, denied for another's VM,
 * owner-mismatch when the broker or the VM says that one's own VM is another's,
 * certificate-invalid or agent-key-mismatch when the broker or the network lies, vm-unreachable, handshake, timeout,
 * connection-lost.
 */
export async function connectVm(broker: BrokerApi, identity: Identity, host: Host, vm: Vm): Promise<Connection> {
  if (vm.owner !== encodeBase64url(identity.signKey)) throw strangerError(identity, vm)
  requireEnrolled(vm)
  const certificate = currentCertificate(identity.signKey, vm)
  if (certificate) return { session: await open(broker, identity, host, vm, certificate), contact: 'known' }
  const claimed = {
    version: 1 as const,
    vm: vm.id,
    launch: vm.launch,
    generation: vm.agent.generation,
    agentDh: decodeBase64url(vm.agent.agentDh),
    agentSign: decodeBase64url(vm.agent.agentSign),
  }
  const session = await open(broker, identity, host, vm, claimed, { first: true })
  try {
    await broker.certifyVm(
      vm.id,
      identity.withSigningSeed(seed => signCertificate(claimed, seed)),
    )
  } catch (thrown) {
    session.close()
    throw thrown
  }
  return { session, contact: 'first' }
}

/**
 * Connects to another's VM by the grant that one holds there. Whose VM it is only the broker says, so no key of a drive may
 * be sent in such a session. Fails as connectVm does, and with denied, grant-invalid or grant-expired; with vm-state until
 * the owner has connected to this boot.
 */
export async function connectGrantedVm(broker: BrokerApi, identity: Identity, host: Host, vm: Vm): Promise<Connection> {
  const { signed } = ownGrant(identity, vm, host.clock.now())
  requireEnrolled(vm)
  const certificate = currentCertificate(decodeBase64url(vm.owner), vm)
  if (!certificate) throw new MortarError('vm-state', `the owner of ${vm.name} has not connected since it booted`)
  return { session: await open(broker, identity, host, vm, certificate, { grant: signed }), contact: 'known' }
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

/** The owner's certificate for this boot; null when there is none yet. Fails with certificate-invalid, agent-key-mismatch. */
export function currentCertificate(owner: Uint8Array, vm: Vm): AgentCertificate | null {
  if (!vm.certificate || !vm.agent) return null
  const certificate = openCertificate(decodeCertificate(vm.certificate), owner)
  if (certificate.vm !== vm.id) throw new MortarError('certificate-invalid', `${vm.name}: it is another VM's`)
  // an earlier boot's: the new keys must prove themselves by the launch secret
  if (certificate.launch !== vm.launch || certificate.generation !== vm.agent.generation) return null
  const claimed = [decodeBase64url(vm.agent.agentDh), decodeBase64url(vm.agent.agentSign)] as const
  if (!equalBytes(claimed[0], certificate.agentDh) || !equalBytes(claimed[1], certificate.agentSign)) {
    throw new MortarError('agent-key-mismatch', `${vm.name}: the broker names other keys than the certificate`)
  }
  return certificate
}

function decodeCertificate(text: string): Uint8Array {
  try {
    return decodeBase64url(text)
  } catch (cause) {
    throw new MortarError('certificate-invalid', 'not base64url', { cause })
  }
}

async function open(
  broker: BrokerApi,
  identity: Identity,
  host: Host,
  vm: Vm,
  { agentDh, agentSign }: Pick<AgentCertificate, 'agentDh' | 'agentSign'>,
  { first = false, grant }: { first?: boolean; grant?: Uint8Array } = {},
): Promise<ClientSession> {
  const key = await broker.key()
  const { session, token } = await broker.createSession(vm.id, 'channel')
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
