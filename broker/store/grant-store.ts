/** Grants in the database: at each VM at most one for each grantee, the latest. */
import type { DatabaseSync } from 'node:sqlite'
import type { Permission } from '../../protocol/control/roles.ts'

export interface GrantRecord {
  readonly vm: string
  /** Ed25519 key, base64url */
  readonly grantee: string
  readonly serial: number
  /** seconds since 1970 */
  readonly expires: number
  readonly permissions: readonly Permission[]
  /** ids of the drives that it names; null for every drive */
  readonly drives: readonly string[] | null
  /** as its owner signed it, base64url */
  readonly signed: string
}

const COLUMNS = 'vm, grantee, serial, expires, permissions, drives, signed'

export class GrantStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Puts the grant in the place of an older one of the same grantee. */
  save(grant: GrantRecord): void {
    this.#database
      .prepare(`INSERT OR REPLACE INTO grants (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?)`)
      .run(
        grant.vm,
        grant.grantee,
        grant.serial,
        grant.expires,
        JSON.stringify(grant.permissions),
        JSON.stringify(grant.drives),
        grant.signed,
      )
  }

  get(vm: string, grantee: string): GrantRecord | undefined {
    const row = this.#database.prepare(`SELECT ${COLUMNS} FROM grants WHERE vm = ? AND grantee = ?`).get(vm, grantee)
    return row && toGrant(row)
  }

  /** All at a VM, expired ones too. */
  ofVm(vm: string): GrantRecord[] {
    return this.#database.prepare(`SELECT ${COLUMNS} FROM grants WHERE vm = ? ORDER BY rowid`).all(vm).map(toGrant)
  }

  /** All of a grantee, expired ones too. */
  ofGrantee(grantee: string): GrantRecord[] {
    const rows = this.#database.prepare(`SELECT ${COLUMNS} FROM grants WHERE grantee = ? ORDER BY rowid`).all(grantee)
    return rows.map(toGrant)
  }

  /** False when there is none. */
  remove(vm: string, grantee: string): boolean {
    return this.#database.prepare('DELETE FROM grants WHERE vm = ? AND grantee = ?').run(vm, grantee).changes === 1
  }

  removeExpired(vm: string, nowSeconds: number): void {
    this.#database.prepare('DELETE FROM grants WHERE vm = ? AND expires <= ?').run(vm, nowSeconds)
  }

  removeAll(vm: string): void {
    this.#database.prepare('DELETE FROM grants WHERE vm = ?').run(vm)
  }
}

function toGrant(row: Record<string, unknown>): GrantRecord {
  return {
    vm: String(row.vm),
    grantee: String(row.grantee),
    serial: Number(row.serial),
    expires: Number(row.expires),
    // written from a grant that was checked
    permissions: JSON.parse(String(row.permissions)) as Permission[],
    drives: JSON.parse(String(row.drives)) as string[] | null,
    signed: String(row.signed),
  }
}
