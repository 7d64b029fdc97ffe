/** SSH public keys that may log in at the jump host. A key may be named by several users: naming one proves nothing. */
import type { DatabaseSync } from 'node:sqlite'

export class SshKeyStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** `key`: "type base64". May be repeated. */
  add(key: string, owner: string): void {
    this.#database
      .prepare('INSERT INTO ssh_keys (key, owner, added) VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
      .run(key, owner, new Date().toISOString())
  }

  /** The users who named the key: whoever holds it reaches the VMs of each of them, by their own wish. */
  ownersOf(key: string): string[] {
    const rows = this.#database.prepare('SELECT owner FROM ssh_keys WHERE key = ? ORDER BY rowid').all(key)
    return rows.map(row => String(row.owner))
  }

  countOf(owner: string): number {
    return Number(this.#database.prepare('SELECT count(*) AS n FROM ssh_keys WHERE owner = ?').get(owner)?.n)
  }
}
