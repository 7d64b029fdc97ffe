/** The owner's certificate for a boot that a session has proven, and the owner's choice between boots. SPEC §2.4, §2.8 */
import type { Vm } from '../../protocol/control/api.ts'
import type { Boot } from '../../protocol/control/boot.ts'
import { type AgentCertificate, signCertificate } from '../../protocol/control/certificate.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import type { BrokerApi } from '../broker/api.ts'
import type { Host } from '../host/host.ts'
import type { Identity } from '../identity/identity.ts'

export interface CertifyParts {
  readonly broker: BrokerApi
  readonly identity: Identity
  readonly host: Host
}

export interface Certified {
  /** the boot, as its statement or the last certificate names it */
  readonly boot: Pick<Boot, 'generation' | 'agentDh' | 'agentSign' | 'provenBy'>
  /** in which the agent has proven its keys and named the key of its next boot */
  readonly session: ClientSession
  readonly last: AgentCertificate | null
  /** the owner chose it by hand */
  readonly confirmed?: boolean
}

/** Signs a certificate and leaves it at the broker. Fails with protocol-violation when the agent named no next key, and as certifyVm. */
export async function certify(
  { broker, identity, host }: CertifyParts,
  vm: Vm,
  { boot, session, last, confirmed = false }: Certified,
): Promise<void> {
  const { nextBoot } = session
  if (!nextBoot) throw new MortarError('protocol-violation', `${vm.name} named no key for its next boot`)
  const known = await broker.knownVms.read(vm.id)
  const serial = Math.max(Math.floor(host.clock.now()), (last?.serial ?? 0) + 1, (known?.serial ?? 0) + 1)
  const statement = {
    version: 1 as const,
    vm: vm.id,
    launch: vm.launch,
    generation: boot.generation,
    agentDh: boot.agentDh,
    agentSign: boot.agentSign,
    provenBy: boot.provenBy,
    nextBoot,
    serial,
    confirmed,
  }
  await broker.certifyVm(
    vm.id,
    identity.withSigningSeed(seed => signCertificate(statement, seed)),
  )
  await broker.knownVms.write(vm.id, { launch: vm.launch, serial })
}
