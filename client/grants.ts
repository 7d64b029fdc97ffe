/** Grants from their owner's side: rights at a VM are given to another user and taken back. SPEC §2.7, §9.6 */
import { grantRevoke } from '../protocol/commands/grants.ts'
import type { Vm } from '../protocol/control/api.ts'
import { type Grant, signGrant } from '../protocol/control/grant.ts'
import { parseIdentity } from '../protocol/control/login.ts'
import { type GrantedRole, type Permission, ROLES } from '../protocol/control/roles.ts'
import { encodeBase64url, equalBytes } from '../protocol/core/bytes.ts'
import type { Clock } from '../protocol/core/clock.ts'
import { asMortarError, MortarError } from '../protocol/core/errors.ts'
import type { BrokerApi } from './broker-api.ts'
import { connectVm } from './connect.ts'
import type { Host } from './host.ts'
import type { Identity } from './identity.ts'
import { grantsOf } from './read-grants.ts'

export interface GrantOptions {
  /** public identity of who is given the rights, mortar1… */
  readonly grantee: string
  readonly role: GrantedRole
  /** all of the role unless given */
  readonly permissions?: readonly Permission[]
  /** ids of drives; null: every drive */
  readonly drives: readonly string[] | null
  /** host:port, where tunnels may lead */
  readonly targets: readonly string[]
  readonly seconds: number
}

/** Signs a grant and leaves it at the broker, where the grantee finds it. It replaces an older one. Fails with grant-invalid, bad-request. */
export async function createGrant(
  broker: BrokerApi,
  identity: Identity,
  clock: Clock,
  vm: Vm,
  options: GrantOptions,
): Promise<Grant> {
  requireOwner(identity, vm)
  const { sign, dh } = parseIdentity(options.grantee)
  const now = clock.now()
  const known = grantsOf(vm).find(({ grantee }) => equalBytes(grantee, sign))
  const grant: Grant = {
    version: 1,
    vm: vm.id,
    grantee: sign,
    granteeDh: dh,
    role: options.role,
    permissions: [...(options.permissions ?? ROLES[options.role])],
    drives: options.drives && [...options.drives],
    targets: [...options.targets],
    expires: Math.floor(now / 1000) + options.seconds,
    // the time, so that the owner's devices need not agree on a counter
    serial: Math.max(now, (known?.serial ?? 0) + 1),
  }
  await broker.putGrant(
    vm.id,
    identity.withSigningSeed(seed => signGrant(grant, seed)),
  )
  return grant
}

/**
 * Takes all rights at a VM back: the agent refuses every grant that there was and ends the grantee's sessions; the broker
 * forgets the grant. When the agent cannot be told it fails as connectVm does, and must be repeated. `grantee`: mortar1….
 */
export async function revokeGrant(
  broker: BrokerApi,
  identity: Identity,
  host: Host,
  vm: Vm,
  grantee: string,
): Promise<void> {
  requireOwner(identity, vm)
  const { sign } = parseIdentity(grantee)
  const known = grantsOf(vm).find(grant => equalBytes(grant.grantee, sign))
  const serial = Math.max(host.clock.now(), known?.serial ?? 0)
  // the broker first: who is refused there cannot come back while the agent is told
  await broker.deleteGrant(vm.id, encodeBase64url(sign))
  // no session will be in a VM that does not run again
  if (vm.state === 'stopped' || vm.state === 'failed' || vm.state === 'destroyed') return
  try {
    const { session } = await connectVm(broker, identity, host, vm)
    try {
      const call = await session.open(grantRevoke, { grantee: sign, serial })
      for await (const _ of call.received()) {
        // all is said in the answer; this takes the end of the stream
      }
    } finally {
      session.close()
    }
  } catch (thrown) {
    const { code, detail } = asMortarError(thrown)
    throw new MortarError(code, `${detail} (taken back at the broker only: repeat it when the agent answers)`, {
      cause: thrown,
    })
  }
}

function requireOwner(identity: Identity, vm: Vm): void {
  if (vm.owner !== encodeBase64url(identity.signKey)) throw new MortarError('denied', `${vm.name} has another owner`)
}
