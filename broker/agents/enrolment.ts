/**
 * What an enrolment proves, by the one-use key that signed its boot statement, and what it changes in the VM's record. Nothing
 * here asks whether a reboot was seen: the keys tell. SPEC §2.8, §3.2
 */
import { type Boot, bootText, verifyProtest } from '../../protocol/control/boot.ts'
import { openCertificate } from '../../protocol/control/certificate.ts'
import { type Enrolment, openEnrolment, type SignedEnrolment } from '../../protocol/control/enrolment.ts'
import { decodeBase64url, decodeHex, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { namedKey } from '../../protocol/core/signing.ts'
import type { BootRecord, VmRecord, WaitingBoot } from '../store/vm-store.ts'

/**
 * first: of the launch. again: the agent that is current. follows: by the next-boot key of the current one. successor: the
 * same while the current one is still connected. ancestor: a boot that others have followed, and that runs. rival: by a key
 * that has proven another boot. unproven: by the launch key once it is spent.
 */
export type Claim = 'first' | 'again' | 'follows' | 'successor' | 'ancestor' | 'rival' | 'unproven'

/** What is stored of an agent, whether it is current or waits. */
export type AgentFacts = NonNullable<VmRecord['agent']>

/** The keys that a VM's record gives a meaning to. */
interface KnownKeys {
  /** public key of the launch secret */
  readonly launch: string
  /** the key that proves the next boot; null before the first */
  readonly next: string | null
  /** a key that the owner has decided about: nothing that it signs counts any more */
  readonly settled: string | null
}

function keysOf(record: VmRecord): KnownKeys {
  const top = record.boots.at(-1)
  const certificate = certificateOf(record)
  const certified = certificate !== null && top?.agentSign === encodeBase64url(certificate.agentSign)
  return {
    launch: record.commitment,
    // the certificate is newer than the statement: an agent whose key was stolen makes another
    next: certified ? encodeBase64url(certificate.nextBoot) : (top?.nextBoot ?? null),
    settled: certificate?.confirmed ? encodeBase64url(certificate.provenBy) : null,
  }
}

export function certificateOf(record: VmRecord, textual = record.certificate) {
  return textual === null ? null : openCertificate(decodeBase64url(textual), decodeBase64url(record.owner))
}

/** The boots from the certified one on; all when none is certified. Those before it are there to protest. */
function standingOf(record: VmRecord): readonly BootRecord[] {
  const certificate = certificateOf(record)
  const certified = certificate && encodeBase64url(certificate.agentSign)
  const index = record.boots.findIndex(({ agentSign }) => agentSign === certified)
  return record.boots.slice(Math.max(index, 0))
}

/** The boot that the certified one follows, as the owner certified it, or that those before the certified one follow. */
function formerOf(record: VmRecord) {
  const former = certificateOf(record, record.formerCertificate)
  if (!former) return null
  const [agentDh, agentSign, nextBoot] = [former.agentDh, former.agentSign, former.nextBoot].map(encodeBase64url)
  return { agentDh, agentSign, nextBoot, provenBy: encodeBase64url(former.provenBy) } as BootKeys
}

type BootKeys = Omit<BootRecord, 'statement'>

const same = (boot: { agentDh: string; agentSign: string }, other: { agentDh: string; agentSign: string }) =>
  boot.agentDh === other.agentDh && boot.agentSign === other.agentSign

/** Whether two boots claim to be the VM, and the owner has to decide. */
export const isContested = ({ waiting }: VmRecord): boolean =>
  waiting.some(({ claim, protest }) => claim === 'rival' || protest !== null)

/** The first of the boots that a waiting one stands for: what signed it is what they claim by. */
const headOf = (waiting: WaitingBoot): BootRecord => waiting.line[0] ?? waiting

/**
 * The claim that an enrolment makes by the key that signed the first of its boots that the broker does not know; null: none.
 * `live`: the current agent is connected.
 */
export function claimOf(record: VmRecord, last: BootRecord, line: readonly BootRecord[], live: boolean): Claim | null {
  const keys = keysOf(record)
  const top = record.boots.at(-1)
  const boot = line[0] ?? last
  if (!top) return boot.provenBy === keys.launch ? 'first' : null
  if (same(top, boot)) return 'again'
  const former = formerOf(record)
  if (record.boots.some(earlier => same(earlier, boot)) || (former && same(former, boot))) return 'ancestor'
  const proven = record.waiting.filter(({ claim }) => claim === 'successor' || claim === 'rival')
  // what proved a boot before the certified one is spent
  const used = [...standingOf(record), ...proven.map(headOf)]
  const twice = used.some(other => other.provenBy === boot.provenBy && !same(other, boot))
  if (twice && boot.provenBy !== keys.settled) return 'rival'
  // who was disowned stays so, though the boot that did it is away
  if (record.waiting.some(other => other.protest !== null && same(headOf(other), boot))) return 'rival'
  if (boot.provenBy === keys.next) return live ? 'successor' : 'follows'
  return boot.provenBy === keys.launch ? 'unproven' : null
}

export interface Judged {
  readonly boot: BootRecord
  /** boots before it that the broker did not know, oldest first */
  readonly line: readonly BootRecord[]
  readonly facts: AgentFacts
  readonly claim: Claim
}

/**
 * Checks an enrolment for a VM. Fails with enrolment-invalid (nothing that it proves, or for another launch or brick) or
 * vm-state. What no known key signed costs no signature check.
 */
export function judge(
  record: VmRecord,
  signed: SignedEnrolment,
  { nonce, live, now }: { nonce: Uint8Array; live: boolean; now: number },
): Judged {
  const shown = [...signed.line, signed.boot].map(each => encodeBase64url(namedKey(each, 'enrolment-invalid')))
  const boots = [...record.boots, ...record.waiting].map(({ provenBy }) => provenBy)
  const known = [record.commitment, keysOf(record).next, formerOf(record)?.provenBy, ...boots]
  if (!shown.some(key => known.includes(key))) throw new MortarError('enrolment-invalid', 'signed by no key of this VM')
  const { boot, line, enrolment } = openEnrolment(signed, nonce)
  if (boot.vm !== record.id || boot.launch !== record.launch) {
    throw new MortarError('enrolment-invalid', 'another VM or launch')
  }
  if (!equalBytes(enrolment.brick, decodeHex(record.brickSha256))) {
    throw new MortarError('enrolment-invalid', 'another brick')
  }
  if (['stopping', 'stopped', 'destroyed'].includes(record.state)) throw new MortarError('vm-state', record.state)
  const text = bootText(boot)
  const texts = line.map(bootText)
  // what the broker knows already needs no second look
  const seen = texts.findLastIndex(each => record.boots.some(other => same(other, each)))
  const unseen = texts.slice(seen + 1)
  const claim = claimOf(record, text, unseen, live)
  if (!claim) throw new MortarError('enrolment-invalid', 'signed by no key of this VM')
  return { boot: text, line: unseen, facts: factsOf(boot, enrolment, now), claim }
}

function factsOf(boot: Boot, enrolment: Enrolment, now: number): AgentFacts {
  return {
    generation: boot.generation,
    agentDh: encodeBase64url(boot.agentDh),
    agentSign: encodeBase64url(boot.agentSign),
    addresses: enrolment.addresses,
    version: enrolment.agentVersion,
    enrolledAt: new Date(now).toISOString(),
  }
}

/** The record's members that change when an agent becomes the current one. */
export function asCurrent(record: VmRecord, { boot, line, facts }: Judged): Partial<VmRecord> {
  return {
    agent: facts,
    boots: [...record.boots, ...line, boot].slice(-LIMITS.bootChain),
    // a proven boot settles who is there; what proves that somebody has a copy of a key stays until the owner decided
    waiting: record.waiting.filter(other => !same(other, boot) && (other.claim === 'rival' || other.protest !== null)),
    deadline: null,
  }
}

/**
 * The record's members that change when a boot waits for the owner. `connected`: whether a waiting boot has its socket.
 * Fails with limit-exceeded when as many wait as may.
 */
export function asWaiting(
  record: VmRecord,
  { boot, line, facts, claim }: Judged,
  connected: (agentSign: string) => boolean,
): Partial<VmRecord> {
  if (claim === 'first' || claim === 'again' || claim === 'follows') throw new MortarError('internal', claim)
  const before = record.waiting.find(other => same(other, boot))
  const entry: WaitingBoot = { ...boot, ...facts, line: [...line], claim, protest: before?.protest ?? null }
  const others = record.waiting.filter(other => other !== before)
  // whose key a second one used is a rival too: it stops being the one that comes next
  const marked = others.map(other =>
    claim === 'rival' && headOf(other).provenBy === headOf(entry).provenBy
      ? { ...other, claim: 'rival' as const }
      : other,
  )
  if (marked.length < LIMITS.waitingBoots) return { waiting: [...marked, entry], deadline: null }
  const away = marked.filter(other => !connected(other.agentSign))
  const gone = away.find(other => other.claim === 'unproven') ?? away[0]
  if (!gone) throw new MortarError('limit-exceeded', 'boots that wait')
  return { waiting: [...marked.filter(other => other !== gone), entry], deadline: null }
}

/** A successor whose predecessor is over becomes current. Null when it does not wait, or is contested. */
export function promoted(record: VmRecord, agentSign: string): Partial<VmRecord> | null {
  const waiting = record.waiting.find(boot => boot.agentSign === agentSign)
  if (waiting?.claim !== 'successor' || waiting.protest !== null) return null
  const { claim: _claim, protest: _protest, line, provenBy, nextBoot, statement, ...facts } = waiting
  const boot = { agentDh: facts.agentDh, agentSign, provenBy, nextBoot, statement }
  return asCurrent(record, { boot, line, facts, claim: 'follows' })
}

/** The statement that a boot may protest against and has not: the waiting one that claims to follow it, or the one that did. */
export function successorOf(record: VmRecord, agentSign: string): BootRecord | undefined {
  const isFormer = formerOf(record)?.agentSign === agentSign
  const index = isFormer ? -1 : record.boots.findIndex(boot => boot.agentSign === agentSign)
  if ((index < 0 && !isFormer) || record.waiting.some(boot => boot.agentSign === agentSign && boot.protest !== null))
    return undefined
  const waits = record.waiting.find(({ claim, protest }) => claim === 'successor' && protest === null)
  return record.boots[index + 1] ?? (waits && headOf(waits))
}

/** The record's members that change with a protest of the boot `agentSign`. Null when it proves nothing. */
export function protested(record: VmRecord, agentSign: string, signature: Uint8Array): Partial<VmRecord> | null {
  const successor = successorOf(record, agentSign)
  if (!successor) return null
  const statement = decodeBase64url(successor.statement)
  if (!verifyProtest(statement, signature, decodeBase64url(agentSign))) return null
  // the one of the two that waits carries it
  const marked = record.waiting.find(
    boot => headOf(boot).agentSign === successor.agentSign || boot.agentSign === agentSign,
  )
  if (!marked) return null
  const protest = encodeBase64url(signature)
  return { waiting: record.waiting.map(boot => (boot === marked ? { ...boot, protest } : boot)) }
}

/**
 * What changes with a certificate of the owner's for the current boot or one that waits; decided: it says that all others
 * are not the VM. Fails with certificate-invalid or boot-contested.
 */
export function certified(
  record: VmRecord,
  textual: string,
  signed: Uint8Array,
): { changes: Partial<VmRecord>; decided: boolean } {
  const certificate = openCertificate(signed, decodeBase64url(record.owner))
  const keys = { agentDh: encodeBase64url(certificate.agentDh), agentSign: encodeBase64url(certificate.agentSign) }
  const provenBy = encodeBase64url(certificate.provenBy)
  const waiting = record.waiting.find(boot => same(boot, keys))
  const boot = record.boots.at(-1)
  const target = waiting ?? (boot && same(boot, keys) ? boot : undefined)
  const fits = certificate.vm === record.id && certificate.launch === record.launch && target?.provenBy === provenBy
  if (!fits) throw new MortarError('certificate-invalid', 'it is about no boot that enrolled')
  if (certificate.serial <= (certificateOf(record)?.serial ?? -1)) {
    throw new MortarError('certificate-invalid', 'there is a newer one')
  }
  if (!certificate.confirmed && (waiting || isContested(record))) throw new MortarError('boot-contested', record.name)
  const { statement, nextBoot } = target
  const last = certificateOf(record)
  const isLast = ({ agentSign }: { agentSign: string }) =>
    last !== null && agentSign === encodeBase64url(last.agentSign)
  // one for the same boot, whose agent made another key, leaves what was before as it was
  const again = isLast(keys)
  // boots that the owner never met lie between: they may protest
  const before = certificate.confirmed ? [] : record.boots.slice(again ? 0 : record.boots.findIndex(isLast) + 1, -1)
  const former = again ? record.formerCertificate : record.certificate
  const changes = {
    certificate: textual,
    formerCertificate: certificate.confirmed ? null : former,
    boots: [...before, { ...keys, provenBy, nextBoot, statement }],
  }
  if (waiting) {
    const { generation, agentDh, agentSign, addresses, version, enrolledAt } = waiting
    const agent = { generation, agentDh, agentSign, addresses, version, enrolledAt }
    return { changes: { ...changes, agent, waiting: [] }, decided: true }
  }
  // what came before this boot has nothing to say any more
  const others = certificate.confirmed ? [] : record.waiting.filter(other => other.claim !== 'ancestor')
  return { changes: { ...changes, waiting: others }, decided: certificate.confirmed }
}
