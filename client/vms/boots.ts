/**
 * Who a VM is: judged by the owner's last certificate, the boots that followed it, and the ones that wait, each by the key that
 * signed its statement. What the broker says of them counts for nothing but that it can hide some. SPEC §2.8
 */
import { bootWords } from '../../protocol/channel/comparison.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { type Boot, openBoot, sameBoot, verifyProtest } from '../../protocol/control/boot.ts'
import { type AgentCertificate, openCertificate } from '../../protocol/control/certificate.ts'
import { decodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'

/** certified: the boot of the certificate. succeeded: it follows that one. first: of the launch, which its secret has still to prove. */
export type Standing =
  | { readonly kind: 'certified'; readonly certificate: AgentCertificate }
  | { readonly kind: 'succeeded' | 'first'; readonly boot: Boot; readonly certificate: AgentCertificate | null }
  | { readonly kind: 'unproven' | 'contested'; readonly certificate: AgentCertificate | null }

/** A boot that the owner may choose. */
export interface Candidate {
  readonly boot: Boot
  /** six words that its agent writes to the VM's console */
  readonly words: string
  readonly connected: boolean
  readonly enrolledAt: string
  /** the one that sessions go to now */
  readonly current: boolean
}

/** A boot that a certificate or a chain of keys vouches for. */
type Anchored = Pick<Boot, 'agentDh' | 'agentSign' | 'provenBy' | 'nextBoot'> & {
  readonly signed?: Uint8Array
  /** the owner has certified a later one: the key that proved it is spent, and contests nothing */
  readonly isFormer?: true
}

/**
 * Judges the VM as the broker shows it. `launchKey`: public key of the launch secret, which the owner derives; null for others,
 * who have only the certificate. Fails with certificate-invalid, or agent-key-mismatch when the broker names keys that no
 * statement speaks of.
 */
export function judgeBoot(owner: Uint8Array, vm: Vm, launchKey: Uint8Array | null): Standing {
  const certificate = certificateOf(owner, vm)
  const agent = vm.agent && {
    agentDh: decodeBase64url(vm.agent.agentDh),
    agentSign: decodeBase64url(vm.agent.agentSign),
  }
  if (!agent) return { kind: 'unproven', certificate }
  const boots = vm.boots.map(statement => openShown(vm, statement))
  const waiting = vm.waiting.flatMap(({ statement, line, protest }) => {
    const [head, ...others] = [...line, statement].map(each => openShown(vm, each))
    return head ? [{ head, last: others.at(-1) ?? head, protest }] : []
  })
  const former = certificateOf(owner, vm, vm.formerCertificate)
  const chain = chainOf({ certificate, former }, boots, launchKey)
  const settled = settledKey(certificate)
  if (waiting.some(other => contests(chain, other, settled)) || twins(chain, waiting)) {
    return { kind: 'contested', certificate }
  }
  // others than the owner have the certificate alone
  if (!certificate && !launchKey) return { kind: 'unproven', certificate }
  const top = chain.at(-1)
  const boot = boots.at(-1)
  if (!top || !sameBoot(top, agent)) {
    if (boot && sameBoot(boot, agent)) return { kind: 'unproven', certificate }
    throw new MortarError('agent-key-mismatch', `${vm.name}: the broker names keys that no boot stated`)
  }
  // the boot that was known is away, and another one says it is the VM
  if (!vm.agent?.connected && vm.waiting.some(other => other.connected)) return { kind: 'unproven', certificate }
  if (certificate && sameBoot(certificate, top)) return { kind: 'certified', certificate }
  if (!boot) throw new MortarError('internal', 'a chain without boots')
  return { kind: certificate ? 'succeeded' : 'first', boot, certificate }
}

/** A boot that waits, and the first of those that it stands for, whose key is what it claims by. */
interface Claimant {
  readonly head: Boot
  readonly last: Boot
}

/** The owner's certificate for this launch; null when there is none. Fails with certificate-invalid. */
export function certificateOf(owner: Uint8Array, vm: Vm, textual = vm.certificate): AgentCertificate | null {
  if (!textual) return null
  const certificate = openCertificate(decodeText(textual), owner)
  if (certificate.vm !== vm.id) throw new MortarError('certificate-invalid', `${vm.name}: it is another VM's`)
  return certificate.launch === vm.launch ? certificate : null
}

/** All boots that claim to be the VM, the current one first. */
export function candidatesOf(suite: Suite, vm: Vm): readonly Candidate[] {
  const current = vm.boots.at(-1)
  const shown = [
    ...(current && vm.agent ? [{ ...vm.agent, statement: current, current: true }] : []),
    ...vm.waiting.map(boot => ({ ...boot, current: false })),
  ]
  return shown.map(({ statement, connected, enrolledAt, current }) => {
    const boot = openShown(vm, statement)
    return { boot, words: bootWords(suite, boot), connected, enrolledAt, current }
  })
}

/** A statement that the broker shows. Fails with certificate-invalid. */
function openShown(vm: Vm, statement: string): Boot {
  const boot = openBoot(decodeText(statement), 'certificate-invalid')
  if (boot.vm === vm.id && boot.launch === vm.launch) return boot
  throw new MortarError('certificate-invalid', `${vm.name}: a boot of another VM or launch`)
}

/**
 * The boots that lead from the certificate, or from the launch key, each proven by the key that the one before named; before
 * them those that lead to the certificate from the one before it, or from the launch key.
 */
function chainOf(
  { certificate, former }: { certificate: AgentCertificate | null; former: AgentCertificate | null },
  boots: readonly Boot[],
  launchKey: Uint8Array | null,
): Anchored[] {
  if (!certificate) return followed(launchKey, boots)
  const known = boots.findIndex(boot => sameBoot(boot, certificate))
  const { agentDh, agentSign, provenBy, nextBoot } = certificate
  const signed = boots[known]?.signed
  return [
    ...formerOf({ certificate, former }, boots.slice(0, Math.max(known, 0)), launchKey),
    { agentDh, agentSign, provenBy, nextBoot, ...(signed && { signed }) },
    ...followed(nextBoot, boots.slice(known + 1)),
  ]
}

/** As many of the boots as follow one another, the first of them proven by the key `next`. */
function followed(next: Uint8Array | null, boots: readonly Boot[]): Boot[] {
  const end = boots.findIndex(({ provenBy }, index) => {
    const key = index === 0 ? next : boots[index - 1]?.nextBoot
    return !key || !equalBytes(provenBy, key)
  })
  return end < 0 ? [...boots] : boots.slice(0, end)
}

/** The boots before the certified one; none unless each proves the next, from the certificate before or from the launch. */
function formerOf(
  { certificate, former }: { certificate: AgentCertificate; former: AgentCertificate | null },
  boots: readonly Boot[],
  launchKey: Uint8Array | null,
): Anchored[] {
  const line = followed(former?.nextBoot ?? launchKey, boots)
  const before = [...(former ? [former] : []), ...line]
  const last = before.at(-1)
  const leads = line.length === boots.length && last && equalBytes(last.nextBoot, certificate.provenBy)
  return leads ? before.map(boot => ({ ...boot, isFormer: true })) : []
}

/** The key about which the owner has decided. */
const settledKey = (certificate: AgentCertificate | null) => (certificate?.confirmed ? certificate.provenBy : null)

/**
 * Whether a boot that waits shows that somebody has a copy of a key: it was signed by a key that proved another boot, or a boot
 * that runs disowns the one after it.
 */
function contests(
  chain: readonly Anchored[],
  { head: boot, last, protest }: Claimant & { protest: string | null },
  settled: Uint8Array | null,
): boolean {
  const isSettled = settled !== null && equalBytes(boot.provenBy, settled)
  const second = chain.some(
    other => !other.isFormer && equalBytes(other.provenBy, boot.provenBy) && !sameBoot(other, boot),
  )
  if (second && !isSettled) return true
  if (protest === null) return false
  const signature = decodeText(protest)
  return chain.some((other, index) => {
    // the one that runs is `other`, and `boot` says it came after; or `last` runs, and the chain goes on without it
    const after = chain[index + 1]
    return equalBytes(other.nextBoot, boot.provenBy)
      ? verifyProtest(boot.signed, signature, other.agentSign)
      : sameBoot(other, last) && after?.signed !== undefined && verifyProtest(after.signed, signature, last.agentSign)
  })
}

/** Whether two that wait were signed by one key, which a boot that is vouched for named for the next. */
function twins(chain: readonly Anchored[], waiting: readonly Claimant[]): boolean {
  return waiting.some(({ head: boot }, index) =>
    waiting
      .slice(index + 1)
      .some(
        other =>
          equalBytes(other.head.provenBy, boot.provenBy) &&
          !sameBoot(other.head, boot) &&
          chain.some(({ nextBoot }) => equalBytes(nextBoot, boot.provenBy)),
      ),
  )
}

function decodeText(text: string): Uint8Array {
  try {
    return decodeBase64url(text)
  } catch (cause) {
    throw new MortarError('certificate-invalid', 'not base64url', { cause })
  }
}
