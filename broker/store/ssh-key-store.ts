/** SSH public keys that may log in at the jump host. A key may be named by several users: naming one proves nothing. */
import type { DatabaseSync } from 'node:sqlite'

export interface SshKeyRecord {
  /** "type base64" */
  readonly key: string
  /** what its user calls it; empty for one without a comment */
  readonly name: string
  /** ISO 8601 */
  readonly added: string
}

export class SshKeyStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** May be repeated; the latest name holds. */
  add({ key, name, added }: SshKeyRecord, owner: string): void {
    this.#database
      .prepare(
        `INSERT INTO ssh_keys (key, owner, added, name) VALUES (?, ?, ?, ?)
         ON CONFLICT (key, owner) DO UPDATE SET name = excluded.name`,
      )
      .run(key, owner, added, name)
  }

  /** The users who named the key: whoever holds it reaches the VMs of each of them, by their own wish. */
  ownersOf(key: string): string[] {
    const rows = this.#database.prepare('SELECT owner FROM ssh_keys WHERE key = ? ORDER BY rowid').all(key)
    return rows.map(row => String(row.owner))
  }

  /** A user's, oldest first. */
  list(owner: string): SshKeyRecord[] {
    const rows = this.#database
      .prepare('SELECT key, name, added FROM ssh_keys WHERE owner = ? ORDER BY rowid')
      .all(owner)
    return rows.map(row => ({ key: String(row.key), name: String(row.name), added: String(row.added) }))
  }

  remove(key: string, owner: string): void {
    this.#database.prepare('DELETE FROM ssh_keys WHERE key = ? AND owner = ?').run(key, owner)
  }
}
