/** Grants from their owner's side: rights at a VM are given to another user and taken back. SPEC §2.7, §9.6 */
import type { Ready } from '../../protocol/commands/command.ts'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { type Grant, signGrant } from '../../protocol/control/grant.ts'
import { parseIdentity } from '../../protocol/control/login.ts'
import { type GrantedRole, offeredTo, type Permission } from '../../protocol/control/roles.ts'
import { encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { BrokerApi } from '../broker/api.ts'
import { Unconfirmed } from '../errors/unconfirmed.ts'
import type { Host } from '../host/host.ts'
import type { Identity } from '../identity/identity.ts'
import { connectVm } from '../sessions/connect.ts'
import { type KnownGrant, knownGrants } from './known-grants.ts'
import { grantsOf } from './read-grants.ts'

export interface GrantOptions {
  /** public identity of who is given the rights, mortar1… */
  readonly grantee: string
  readonly role: GrantedRole
  /** all of the role that mean something yet, unless given */
  readonly permissions?: readonly Permission[]
  /** ids of drives; null: every drive */
  readonly drives: readonly string[] | null
  readonly seconds: number
}

export interface Created {
  readonly grant: Grant
  /** why the VM could not be asked which revocation the grant must name; undefined: it was asked */
  readonly notAsked: MortarError | undefined
  /** an older grant is known, which the VM goes on taking until this one is used */
  readonly replaces: boolean
}

/**
 * Signs a grant and leaves it at the broker, where the grantee finds it. The VM says which revocation the grant has to name; one
 * that cannot be asked refuses the grant later if it has revoked this grantee since. The VM goes on taking an older grant until
 * the grantee shows the new one. Fails with grant-invalid, bad-request.
 */
export async function createGrant(
  broker: BrokerApi,
  identity: Identity,
  host: Host,
  vm: Vm,
  options: GrantOptions,
): Promise<Created> {
  requireOwner(identity, vm)
  const { sign, dh } = parseIdentity(options.grantee)
  const shown = grantsOf(vm).find(({ grantee }) => equalBytes(grantee, sign))
  const { known, notAsked } = await knownIn(broker, identity, host, vm, sign)
  const now = host.clock.now()
  const after = notAsked ? shown?.after : known?.mark
  const grant: Grant = {
    version: 1,
    vm: vm.id,
    grantee: sign,
    granteeDh: dh,
    role: options.role,
    permissions: [...(options.permissions ?? offeredTo(options.role))],
    drives: options.drives && [...options.drives],
    // there are no tunnels in this version
    targets: [],
    expires: Math.floor(now / 1000) + options.seconds,
    // the time, so that the owner's devices need not agree on a counter
    serial: Math.max(now, (shown?.serial ?? 0) + 1, (known?.taken?.serial ?? 0) + 1),
    ...(after && { after }),
  }
  await broker.putGrant(
    vm.id,
    identity.withSigningSeed(seed => signGrant(grant, seed)),
  )
  return { grant, notAsked, replaces: shown !== undefined || (known?.taken ?? null) !== null }
}

/** What the VM knows of one grantee, or why it could not be asked. */
async function knownIn(
  broker: BrokerApi,
  identity: Identity,
  host: Host,
  vm: Vm,
  grantee: Uint8Array,
): Promise<{ known: KnownGrant | undefined; notAsked: MortarError | undefined }> {
  try {
    const all = await inSession(broker, identity, host, vm, knownGrants)
    return { known: all.find(item => equalBytes(item.grantee, grantee)), notAsked: undefined }
  } catch (thrown) {
    return { known: undefined, notAsked: asMortarError(thrown) }
  }
}

export interface Revocation extends Ready<typeof grantRevoke> {
  /** why the broker did not say that it deleted its copy; undefined: it did */
  readonly notDeleted: MortarError | undefined
}

/**
 * Takes all rights at a VM back: the VM refuses everything that was signed to the grantee so far, on whichever device and whatever
 * the broker shows of it, and says so itself. Fails with unconfirmed when it does not. `grantee`: mortar1….
 */
export async function revokeGrant(
  broker: BrokerApi,
  identity: Identity,
  host: Host,
  vm: Vm,
  grantee: string,
): Promise<Revocation> {
  requireOwner(identity, vm)
  const { sign } = parseIdentity(grantee)
  const revoke = async (session: ClientSession) => {
    const call = await session.open(grantRevoke, { grantee: sign })
    for await (const _ of call.received()) {
      // all is said in the answer; this takes the end of the stream
    }
    return call.ready
  }
  // what the broker is told only tidies up, so the VM comes first; it is told in any case, for it may be honest
  const revoked = await inSession(broker, identity, host, vm, revoke).catch(asMortarError)
  const notDeleted = await broker.deleteGrant(vm.id, encodeBase64url(sign)).then(() => undefined, asMortarError)
  if (!(revoked instanceof MortarError)) return { ...revoked, notDeleted }
  const copy = notDeleted
    ? `the broker keeps its copy too (${notDeleted.message})`
    : 'the broker says that it deleted its copy'
  throw new Unconfirmed(
    `${vm.name} did not say that it lets ${grantee} in no more (${revoked.message}); ${copy}`,
    `Take the grant as in force, and repeat it when ${vm.name} answers: mortar grant revoke ${vm.name} ${grantee}`,
    { revokedInVm: null, deletedAtBroker: notDeleted === undefined },
    revoked,
  )
}

async function inSession<T>(
  broker: BrokerApi,
  identity: Identity,
  host: Host,
  vm: Vm,
  use: (session: ClientSession) => Promise<T>,
): Promise<T> {
  const { session } = await connectVm(broker, identity, host, vm)
  try {
    return await use(session)
  } finally {
    session.close()
  }
}

function requireOwner(identity: Identity, vm: Vm): void {
  if (vm.owner !== encodeBase64url(identity.signKey)) throw new MortarError('denied', `${vm.name} has another owner`)
}
