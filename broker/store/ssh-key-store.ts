/** SSH public keys that may log in at the jump host, each as one user. */
import type { DatabaseSync } from 'node:sqlite'

export class SshKeyStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** `key`: "type base64". False when it belongs to another user already. */
  add(key: string, owner: string): boolean {
    this.#database
      .prepare('INSERT INTO ssh_keys (key, owner, added) VALUES (?, ?, ?) ON CONFLICT DO NOTHING')
      .run(key, owner, new Date().toISOString())
    return this.ownerOf(key) === owner
  }

  ownerOf(key: string): string | undefined {
    const row = this.#database.prepare('SELECT owner FROM ssh_keys WHERE key = ?').get(key)
    return row && String(row.owner)
  }

  countOf(owner: string): number {
    return Number(this.#database.prepare('SELECT count(*) AS n FROM ssh_keys WHERE owner = ?').get(owner)?.n)
  }
}
