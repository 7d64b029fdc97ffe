/** VMs in the database: one record each, whole, because every reader wants all of it. Keys stand beside it as columns. */
import type { DatabaseSync } from 'node:sqlite'
import type { z } from 'zod'
import { VM_STATES, vmEvent, vm as vmSchema } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { base64urlOf, object, text, uint, z as zod } from '../../protocol/core/schema.ts'
import { isDuplicate } from './database.ts'

const { shape } = vmSchema

/** a boot's public keys and the key that proved it, base64url, and its signed statement */
const bootKeys = {
  agentDh: base64urlOf(32),
  agentSign: base64urlOf(32),
  provenBy: base64urlOf(32),
  nextBoot: base64urlOf(32),
  statement: zod.string().max(LIMITS.bootStatementCharacters),
}
const bootRecordSchema = object(bootKeys)
export type BootRecord = z.output<typeof bootRecordSchema>

const waitingSchema = object({
  ...bootKeys,
  /** boots before it that the broker had not seen, oldest first */
  line: zod.array(bootRecordSchema).max(LIMITS.bootLine),
  generation: uint(),
  addresses: shape.waiting.element.shape.addresses,
  version: text(64),
  enrolledAt: text(40),
  protest: base64urlOf(64).nullable(),
  /** why it waits (broker/agents/enrolment.ts) */
  claim: zod.enum(['rival', 'successor', 'ancestor', 'unproven']),
})
export type WaitingBoot = z.output<typeof waitingSchema>

const vmRecordSchema = object({
  id: shape.id,
  name: shape.name,
  state: zod.enum(VM_STATES),
  revision: shape.revision,
  owner: shape.owner,
  /** the owner's X25519 key, from the ticket */
  ownerDh: base64urlOf(32),
  brick: shape.brick,
  brickSha256: shape.brickSha256,
  launch: shape.launch,
  /** the ticket's commitment to the launch secret */
  commitment: base64urlOf(32),
  createdAt: shape.createdAt,
  memoryMiB: shape.memoryMiB,
  vcpus: shape.vcpus,
  /** its place on the network, for life; null for VMs from before they had one */
  slot: zod.int().min(0).nullable().default(null),
  /** the network that it was launched on */
  network: zod.enum(['isolated', 'user', 'open']).default('open'),
  failure: shape.failure,
  agent: shape.agent.unwrap().omit({ connected: true }).nullable(),
  /** from the boot that the owner certified, or the first, to the one of `agent`, which is the last */
  boots: zod.array(bootRecordSchema).max(LIMITS.bootChain),
  waiting: zod.array(waitingSchema).max(LIMITS.waitingBoots),
  /** ms since 1970 by which it must have enrolled; null when it need not */
  deadline: zod.int().nullable(),
  certificate: shape.certificate,
  formerCertificate: shape.formerCertificate,
  events: zod.array(vmEvent).max(200),
})
export type VmRecord = z.output<typeof vmRecordSchema>

export class VmStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Adds a VM and spends its launch in one step. Fails with ticket-replayed or vm-exists. */
  insert(record: VmRecord, ticketExpires: number): void {
    this.#database.exec('BEGIN IMMEDIATE')
    try {
      this.#database
        .prepare('INSERT INTO launches (launch, vm, expires) VALUES (?, ?, ?)')
        .run(record.launch, record.id, ticketExpires)
      this.#database
        .prepare('INSERT INTO vms (id, owner, name, record) VALUES (?, ?, ?, ?)')
        .run(record.id, record.owner, record.name, JSON.stringify(record))
      this.#database.exec('COMMIT')
    } catch (cause) {
      this.#database.exec('ROLLBACK')
      if (!isDuplicate(cause)) throw cause
      const replayed = /launches/.test((cause as Error).message)
      throw replayed
        ? new MortarError('ticket-replayed', record.launch, { cause })
        : new MortarError('vm-exists', record.name, { cause })
    }
  }

  get(id: string): VmRecord | undefined {
    return read(this.#database.prepare('SELECT record FROM vms WHERE id = ?').get(id))
  }

  findByName(owner: string, name: string): VmRecord | undefined {
    return read(this.#database.prepare('SELECT record FROM vms WHERE owner = ? AND name = ?').get(owner, name))
  }

  /** All, or those of one owner; oldest first. */
  list(owner?: string): VmRecord[] {
    const rows =
      owner === undefined
        ? this.#database.prepare('SELECT record FROM vms ORDER BY rowid').all()
        : this.#database.prepare('SELECT record FROM vms WHERE owner = ? ORDER BY rowid').all(owner)
    return rows.map(row => read(row) as VmRecord)
  }

  countOf(owner: string): number {
    return Number(this.#database.prepare('SELECT count(*) AS n FROM vms WHERE owner = ?').get(owner)?.n)
  }

  /** Slots of all VMs, with their ids. */
  slots(): Map<number, string> {
    const rows = this.#database.prepare("SELECT id, json_extract(record, '$.slot') AS slot FROM vms").all()
    return new Map(rows.filter(({ slot }) => slot !== null).map(({ id, slot }) => [Number(slot), String(id)]))
  }

  save(record: VmRecord): void {
    this.#database.prepare('UPDATE vms SET record = ? WHERE id = ?').run(JSON.stringify(record), record.id)
  }

  remove(id: string): void {
    this.#database.prepare('DELETE FROM vms WHERE id = ?').run(id)
  }

  /** Forgets spent launches whose ticket would be refused for its time anyway. `nowSeconds`: seconds since 1970. */
  forgetExpiredLaunches(nowSeconds: number): void {
    this.#database.prepare('DELETE FROM launches WHERE expires < ? AND vm NOT IN (SELECT id FROM vms)').run(nowSeconds)
  }
}

function read(row: Record<string, unknown> | undefined): VmRecord | undefined {
  return row && vmRecordSchema.parse(JSON.parse(String(row.record)))
}
