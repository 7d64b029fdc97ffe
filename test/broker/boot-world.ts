/**
 * A VM, its disk, its owner, a thief and a broker in one small world whose events come in any order: the broker's enrolment
 * (Agents, VmBook), the agent's state (BootState) and the client's judgement are the product's own; sockets are queues. Keys
 * come from counters, so that equal histories give equal bytes.
 */
import { existsSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { BootState } from '../../agent/boot/boot-state.ts'
import { Agents } from '../../broker/agents/agents.ts'
import { certify } from '../../broker/agents/certify.ts'
import type { VmRecord } from '../../broker/store/vm-store.ts'
import { VmBook } from '../../broker/vms/vm-book.ts'
import { judgeBoot, type Standing } from '../../client/vms/boots.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { openBoot, signBoot } from '../../protocol/control/boot.ts'
import { signCertificate } from '../../protocol/control/certificate.ts'
import { signEnrolment } from '../../protocol/control/enrolment.ts'
import { decodeBase64url, encodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import { asMortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import {
  brick,
  bytesOf,
  commitment,
  keysOf,
  LAUNCH,
  launchSigning,
  owner,
  ownerSeed,
  type Snapshot,
  VM,
  Wire,
} from './boot-snapshot.ts'

/** One step's worth of a world: made from a snapshot, changed by events, and read back. */
export class World {
  readonly #folder: string
  readonly #agents: Agents
  readonly #book: VmBook
  readonly #wires = new Map<string, Wire>()
  readonly #later: (() => void)[] = []
  #record: VmRecord
  #state: Snapshot

  constructor(snapshot: Snapshot, folder: string) {
    this.#folder = folder
    this.#state = snapshot
    this.#record = snapshot.record
    const store = {
      get: (id: string) => (id === VM ? this.#record : undefined),
      save: (record: VmRecord) => {
        this.#record = record
      },
    }
    const clock = {
      now: () => 0,
      after: (ms: number, job: () => void) => {
        if (ms === LIMITS.protestMs) this.#later.push(job)
        return () => {}
      },
    }
    const log = { info: () => {}, warn: () => {}, error: () => {} }
    this.#book = new VmBook({
      store: store as never,
      drives: { attachedTo: () => [] } as never,
      grants: {} as never,
      clock,
      log,
      connected: (id, agentSign) => this.#agents.connected(id, agentSign),
    })
    this.#agents = new Agents({
      book: this.#book,
      clock,
      log,
      brokerId: bytesOf('broker'),
      onEnrolled: () => {},
      onDeclined: () => {},
    })
    this.#withDisk(() => {
      // the current one first, as it was there when the others came
      const isCurrent = (name: string) => encodeBase64url(keysOf(name).sign) === snapshot.record.agent?.agentSign
      const [current, others] = [snapshot.connected.filter(isCurrent), snapshot.connected.filter(n => !isCurrent(n))]
      for (const name of [...current, ...others]) {
        const statement = snapshot.shown[name]
        if (name === this.real) this.#dial(statement)
        else if (statement) this.#enrol(name, statement)
      }
      this.#answerChallenges()
    })
    // taking up sockets again is no event
    this.#record = { ...snapshot.record }
  }

  snapshot(): Snapshot {
    const connected = [...this.#wires].filter(([, wire]) => wire.open).map(([name]) => name)
    // what is only told, or counts, makes no other state
    const record = { ...this.#record, events: [], revision: 1 }
    const shown = Object.fromEntries(Object.entries(this.#state.shown).filter(([name]) => connected.includes(name)))
    return { ...this.#state, shown, record, connected }
  }

  get view(): Vm {
    return this.#book.view(this.#record, [])
  }

  get alarmed(): boolean {
    return this.#record.events.some(({ cause }) => cause.startsWith('ALARM'))
  }

  get real(): string {
    return `real ${this.#state.keySets}`
  }

  /** The running agent dials and enrols; as one that starts again in this boot does. */
  arrive(): void {
    this.#withDisk(() => {
      this.#wires.get(this.real)?.close()
      this.#dial()
      this.#answerChallenges()
    })
  }

  /** `lost`: the disk does not hold the file any more. */
  reboot(lost = false): void {
    this.#state = { ...this.#state, boots: this.#state.boots + 1, disk: lost ? null : this.#state.disk }
    this.loseKeys()
  }

  /** The running agent ends, and one that does not find its keys starts, whether or not it reaches the broker. */
  loseKeys(): void {
    this.#wires.get(this.real)?.close()
    this.#wires.delete(this.real)
    this.#state = { ...this.#state, keySets: this.#state.keySets + 1 }
    this.#withDisk(() => void this.#openState())
  }

  /** The socket of the running agent breaks. */
  breakSocket(): void {
    this.#wires.get(this.real)?.close()
  }

  restartBroker(): void {
    for (const wire of this.#wires.values()) wire.open = false
    this.#wires.clear()
  }

  /** What was asked stays unanswered for as long as it may. */
  wait(): void {
    for (const job of this.#later.splice(0)) job()
  }

  steal(what: 'launch' | 'next'): void {
    const seed = what === 'launch' ? launchSigning : this.#state.disk?.slice(0, 32)
    if (seed) this.#state = { ...this.#state, loot: { ...this.#state.loot, [what]: seed } }
  }

  /** Somebody enrols with keys of their own under what was stolen, or under nothing. */
  pose(what: 'launch' | 'next' | 'nothing'): void {
    const name = `thief ${what}`
    const seed = what === 'nothing' ? bytesOf('a guess') : this.#state.loot[what]
    if (!seed) return
    const { sign, dh } = keysOf(name)
    const statement = signBoot(
      {
        ...{ version: 1, vm: VM, launch: LAUNCH, generation: 2, boot: LAUNCH },
        ...{ agentDh: dh, agentSign: sign, nextBoot: signingPublicKey(bytesOf(`${name} next`)) },
      },
      seed,
    )
    this.#withDisk(() => void this.#enrol(name, statement))
  }

  /** What the owner's client makes of what it is shown. */
  judge(): Standing['kind'] | string {
    try {
      return judgeBoot(owner, this.view, commitment).kind
    } catch (thrown) {
      return asMortarError(thrown).code
    }
  }

  /**
   * The owner connects, or chooses: the agent of that name answers with the keys that it holds, and is certified. Returns who
   * answered; null when the client does not connect, or nobody answers.
   */
  contact(chosen?: string): string | null {
    const standing = judgeBoot(owner, this.view, commitment)
    if (!chosen && (standing.kind === 'unproven' || standing.kind === 'contested')) return null
    const named = chosen ? encodeBase64url(keysOf(chosen).sign) : undefined
    let target: string
    try {
      target = this.#agents.target(VM, named)
    } catch {
      return null
    }
    const name = [...this.#wires.keys()].find(each => encodeBase64url(keysOf(each).sign) === target)
    if (!name) return null
    // first contact is shown the launch secret, which who has not stolen it does not know
    if (standing.kind === 'first' && !chosen && name.startsWith('thief') && !this.#state.loot.launch) return null
    const boots = [...this.#record.boots, ...this.#record.waiting]
    const boot = openBoot(decodeBase64url(boots.find(({ agentSign }) => agentSign === target)?.statement ?? ''))
    const nextBoot = name.startsWith('real') ? this.#withDisk(() => this.#openState().nextBoot) : boot.nextBoot
    const serial = (this.#state.known ?? 0) + 1
    const { version, vm, launch, generation, agentDh, agentSign, provenBy } = boot
    const statement = { version, vm, launch, generation, agentDh, agentSign, provenBy, nextBoot, serial }
    const certificate = encodeBase64url(signCertificate({ ...statement, confirmed: chosen !== undefined }, ownerSeed))
    if (standing.kind !== 'certified' || chosen) {
      certify({ book: this.#book, agents: this.#agents }, this.#record, certificate)
      this.#state = { ...this.#state, known: serial }
    }
    return name
  }

  /** Names of the boots that the owner may choose and that are connected. */
  candidates(): string[] {
    return [...this.#wires].flatMap(([name, wire]) => (wire.open ? [name] : []))
  }

  /** Enrols as the running agent does, with the statement that it showed last, and with the other one when that is refused. */
  #dial(last?: Uint8Array): void {
    const state = this.#openState()
    const both = [state.statement, state.claim]
    if (last && equalBytes(last, state.claim)) both.reverse()
    for (const statement of both) {
      // by the launch key it stands alone, and so it does once a broker took this boot for the VM
      const { said } = this.#enrol(this.real, statement, statement === state.claim ? [] : state.line)
      if (said.some(message => message.type === 'enrolled' && message.standing === 'current')) state.answered()
      if (!said.some(message => message.type === 'refused' && message.code === 'enrolment-invalid')) return
    }
  }

  #enrol(name: string, statement: Uint8Array, line: readonly Uint8Array[] = []): Wire {
    const wire = new Wire()
    this.#agents.accept(wire)
    const challenge = wire.said.find(message => message.type === 'challenge')
    const { seed } = keysOf(name)
    const body = { version: 1 as const, addresses: [], brick, agentVersion: '1', protocols: [1] }
    const signed = signEnrolment(body, { boot: statement, line }, decodeBase64url(challenge?.nonce ?? ''), seed)
    const [boot, encoded, signature] = [signed.boot, signed.body, signed.signature].map(encodeBase64url)
    wire.say({ type: 'enrol', vm: VM, boot, line: line.map(encodeBase64url), body: encoded, signature })
    this.#state = { ...this.#state, shown: { ...this.#state.shown, [name]: statement } }
    if (wire.open) this.#wires.set(name, wire)
    if (name !== this.real) this.#answerChallenges()
    return wire
  }

  /** The running agent protests; a thief is silent. */
  #answerChallenges(): void {
    const wire = this.#wires.get(this.real)
    for (const message of wire?.said.splice(0) ?? []) {
      if (message.type !== 'succeeded') continue
      try {
        const { seed } = keysOf(this.real)
        const signature = this.#openState().protest(decodeBase64url(message.boot), seed)
        wire?.say({ type: 'protest', signature: encodeBase64url(signature) })
      } catch (thrown) {
        // as the agent does: the socket ends
        if (asMortarError(thrown).code !== 'protocol-violation') throw thrown
        wire?.close()
      }
    }
  }

  #openState(): BootState {
    const { sign, dh } = keysOf(this.real)
    return BootState.open({
      stateDirectory: this.#folder,
      boot: `00000000-0000-4000-8000-${String(this.#state.boots).padStart(12, '0')}`,
      ticket: { vm: VM, launch: LAUNCH },
      launchSeed: launchSigning,
      keys: { dh: { publicKey: dh } as never, signPublicKey: sign },
      randomBytes: () => {
        const drawn = this.#state.drawn + 1
        this.#state = { ...this.#state, drawn }
        return bytesOf(`random ${drawn}`)
      },
    })
  }

  /** Lends the VM's disk to `use` as a folder. */
  #withDisk<T>(use: () => T): T {
    const path = join(this.#folder, 'boot')
    if (this.#state.disk) writeFileSync(path, this.#state.disk)
    else rmSync(path, { force: true })
    const result = use()
    const disk = existsSync(path) ? new Uint8Array(readFileSync(path)) : null
    this.#state = { ...this.#state, disk }
    return result
  }
}
