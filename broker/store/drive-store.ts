/** Drives in the database: whose they are, what their owner noted, which VM has them. */
import type { DatabaseSync } from 'node:sqlite'
import type { Drive } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { isDuplicate } from './database.ts'

const COLUMNS = 'id, owner, name, size, serial, note, vm, created'

export class DriveStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Fails with drive-exists. */
  insert(drive: Drive): void {
    try {
      this.#database
        .prepare(`INSERT INTO drives (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)`)
        .run(
          drive.id,
          drive.owner,
          drive.name,
          drive.sizeBytes,
          drive.serial,
          drive.note,
          drive.attachedTo,
          drive.createdAt,
        )
    } catch (cause) {
      throw isDuplicate(cause) ? new MortarError('drive-exists', drive.name, { cause }) : cause
    }
  }

  get(id: string): Drive | undefined {
    const row = this.#database.prepare(`SELECT ${COLUMNS} FROM drives WHERE id = ?`).get(id)
    return row && toDrive(row)
  }

  list(owner?: string): Drive[] {
    const rows =
      owner === undefined
        ? this.#database.prepare(`SELECT ${COLUMNS} FROM drives ORDER BY rowid`).all()
        : this.#database.prepare(`SELECT ${COLUMNS} FROM drives WHERE owner = ? ORDER BY rowid`).all(owner)
    return rows.map(toDrive)
  }

  attachedTo(vm: string): Drive[] {
    return this.#database.prepare(`SELECT ${COLUMNS} FROM drives WHERE vm = ? ORDER BY rowid`).all(vm).map(toDrive)
  }

  /** Gives the drive to the VM if nobody has it; false otherwise. */
  claim(id: string, vm: string): boolean {
    return this.#database.prepare('UPDATE drives SET vm = ? WHERE id = ? AND vm IS NULL').run(vm, id).changes === 1
  }

  /** Takes the drive from the VM if that one has it; false otherwise. */
  release(id: string, vm: string): boolean {
    return this.#database.prepare('UPDATE drives SET vm = NULL WHERE id = ? AND vm = ?').run(id, vm).changes === 1
  }

  countOf(owner: string): number {
    return Number(this.#database.prepare('SELECT count(*) AS n FROM drives WHERE owner = ?').get(owner)?.n)
  }

  releaseAll(vm: string): void {
    this.#database.prepare('UPDATE drives SET vm = NULL WHERE vm = ?').run(vm)
  }

  setNote(id: string, note: string): void {
    this.#database.prepare('UPDATE drives SET note = ? WHERE id = ?').run(note, id)
  }

  remove(id: string): void {
    this.#database.prepare('DELETE FROM drives WHERE id = ?').run(id)
  }
}

function toDrive(row: Record<string, unknown>): Drive {
  return {
    id: String(row.id),
    name: String(row.name),
    sizeBytes: Number(row.size),
    owner: String(row.owner),
    note: String(row.note),
    attachedTo: row.vm === null ? null : String(row.vm),
    serial: String(row.serial),
    createdAt: String(row.created),
  }
}
