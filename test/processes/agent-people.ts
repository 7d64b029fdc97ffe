/** Who owns the VM of an agent under test, and whom the owner lets in. */
import { randomBytes, randomUUID } from 'node:crypto'
import { launchCommitment } from '../../protocol/channel/derive.ts'
import type { KeyPair } from '../../protocol/channel/suite.ts'
import { signGrant } from '../../protocol/control/grant.ts'
import type { Permission } from '../../protocol/control/roles.ts'
import { signTicket } from '../../protocol/control/ticket.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'

/** Who owns the VM, and the launch. */
export function newLaunch() {
  const ownerSeed = randomBytes(32)
  const ownerKeys = suite.generateKeyPair()
  const brokerKey = new Uint8Array(randomBytes(32))
  const launchSecret = new Uint8Array(randomBytes(32))
  const ticket = {
    version: 1 as const,
    vm: randomUUID() as string,
    launch: randomUUID() as string,
    owner: signingPublicKey(ownerSeed),
    ownerDh: ownerKeys.publicKey,
    brick: new Uint8Array(32).fill(1),
    broker: brokerKey,
    commitment: launchCommitment(suite, launchSecret),
    nonce: new Uint8Array(randomBytes(16)),
    // long past: an agent that reboots must not mind
    expires: 1_000_000,
  }
  return { ticket, signed: signTicket(ticket, ownerSeed), ownerKeys, ownerSeed, launchSecret }
}
export type Launch = ReturnType<typeof newLaunch>

export interface Grantee {
  readonly sign: Uint8Array
  readonly keys: KeyPair
  readonly grant: Uint8Array
}

/** A user, one for each `number`, to whom the owner granted so much for some time. */
export function granteeOf(
  { ticket, ownerSeed }: Launch,
  permissions: Permission[],
  {
    serial = 1,
    number = 1,
    seconds = 600,
    after,
  }: { serial?: number; number?: number; seconds?: number; after?: Uint8Array } = {},
): Grantee {
  const keys = suite.importKeyPair(new Uint8Array(32).fill(number))
  const sign = signingPublicKey(new Uint8Array(32).fill(number))
  const grant = signGrant(
    {
      version: 1,
      vm: ticket.vm,
      grantee: sign,
      granteeDh: keys.publicKey,
      role: 'user',
      permissions,
      drives: [],
      targets: [],
      expires: Math.floor(Date.now() / 1000) + seconds,
      serial,
      ...(after && { after }),
    },
    ownerSeed,
  )
  return { sign, keys, grant }
}
