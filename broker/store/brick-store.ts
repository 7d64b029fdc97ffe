/** Imported bricks in the database, by digest; a name means the latest import of that name. */
import type { DatabaseSync } from 'node:sqlite'
import type { z } from 'zod'
import { brick as brickSchema } from '../../protocol/control/api.ts'

export type BrickRecord = z.output<typeof brickSchema>

export class BrickStore {
  readonly #database: DatabaseSync

  constructor(database: DatabaseSync) {
    this.#database = database
  }

  /** Adds the brick, or makes one that is there the latest of its name again. */
  save(brick: BrickRecord): void {
    this.#database
      .prepare(`INSERT INTO bricks (sha256, name, record, imported) VALUES (?, ?, ?, ?)
                ON CONFLICT (sha256) DO UPDATE SET name = excluded.name, record = excluded.record, imported = excluded.imported`)
      .run(brick.sha256, brick.name, JSON.stringify(brick), Date.parse(brick.importedAt))
  }

  get(sha256: string): BrickRecord | undefined {
    return read(this.#database.prepare('SELECT record FROM bricks WHERE sha256 = ?').get(sha256))
  }

  /** Latest first. */
  list(): BrickRecord[] {
    return this.#database
      .prepare('SELECT record FROM bricks ORDER BY imported DESC, rowid DESC')
      .all()
      .map(row => read(row) as BrickRecord)
  }

  remove(sha256: string): void {
    this.#database.prepare('DELETE FROM bricks WHERE sha256 = ?').run(sha256)
  }
}

function read(row: Record<string, unknown> | undefined): BrickRecord | undefined {
  return row && brickSchema.parse(JSON.parse(String(row.record)))
}
