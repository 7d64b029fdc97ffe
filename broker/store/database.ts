/** The database file: SQLite with a write-ahead log, every commit on disk before it is answered; its tables, step by step. */
import { chmodSync } from 'node:fs'
import { dirname } from 'node:path'
import { DatabaseSync } from 'node:sqlite'
import { MortarError } from '../../protocol/core/errors.ts'

/** Each step brings an older file one version on; steps are only ever added. */
const MIGRATIONS = [
  `CREATE TABLE bricks (
     sha256 TEXT PRIMARY KEY, name TEXT NOT NULL, record TEXT NOT NULL, imported INTEGER NOT NULL) STRICT;
   CREATE TABLE vms (
     id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, record TEXT NOT NULL, UNIQUE (owner, name)) STRICT;
   CREATE TABLE launches (launch TEXT PRIMARY KEY, vm TEXT NOT NULL UNIQUE, expires INTEGER NOT NULL) STRICT;
   CREATE TABLE drives (
     id TEXT PRIMARY KEY, owner TEXT NOT NULL, name TEXT NOT NULL, size INTEGER NOT NULL, serial TEXT NOT NULL UNIQUE,
     note TEXT NOT NULL, vm TEXT, created TEXT NOT NULL, UNIQUE (owner, name)) STRICT;
   CREATE INDEX drives_vm ON drives (vm);
   CREATE TABLE ssh_keys (key TEXT NOT NULL, owner TEXT NOT NULL, added TEXT NOT NULL, PRIMARY KEY (key, owner)) STRICT;`,
  `CREATE TABLE grants (
     vm TEXT NOT NULL, grantee TEXT NOT NULL, serial INTEGER NOT NULL, expires INTEGER NOT NULL,
     permissions TEXT NOT NULL, signed TEXT NOT NULL, PRIMARY KEY (vm, grantee)) STRICT;
   CREATE INDEX grants_grantee ON grants (grantee);`,
  `UPDATE vms SET record = json_set(json_remove(record, '$.rebootArmed', '$.agent.boot'),
     '$.boots', json('[]'), '$.waiting', json('[]'), '$.formerCertificate', null);`,
  `ALTER TABLE ssh_keys ADD COLUMN name TEXT NOT NULL DEFAULT '';
   ALTER TABLE grants ADD COLUMN drives TEXT NOT NULL DEFAULT '[]';`,
]

/** numbers of SQLite: another program has the file, the disk is full */
const SQLITE = { busy: 5, full: 13 } as const

/** Opens or makes the database, for this program alone. The caller closes it. Fails with data-taken, data-unusable or no-space. */
export function openDatabase(path: string): DatabaseSync {
  let database: DatabaseSync | undefined
  try {
    database = new DatabaseSync(path)
    chmodSync(path, 0o600)
    // a second broker over the same data would take the first one's launches for leftovers
    database.exec('PRAGMA locking_mode = EXCLUSIVE; PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL')
    database.exec('BEGIN IMMEDIATE; COMMIT')
    migrate(database)
    return database
  } catch (cause) {
    database?.close()
    if (isDiskFull(cause)) throw new MortarError('no-space', path, { cause })
    if (errorNumber(cause) === SQLITE.busy) throw new MortarError('data-taken', dirname(path), { cause })
    throw new MortarError('data-unusable', `database ${path}: ${(cause as Error).message}`, { cause })
  }
}

function migrate(database: DatabaseSync): void {
  const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number }
  if (version > MIGRATIONS.length) throw new Error(`it was written by a newer version (format ${version})`)
  for (const [index, step] of MIGRATIONS.entries()) {
    if (index < version) continue
    database.exec(`BEGIN; ${step}; PRAGMA user_version = ${index + 1}; COMMIT`)
  }
}

function errorNumber(thrown: unknown): number | undefined {
  return (thrown as { errcode?: number } | null)?.errcode
}

/** True for an error by which SQLite reports that nothing more can be written. */
export function isDiskFull(thrown: unknown): boolean {
  return errorNumber(thrown) === SQLITE.full
}

/** True for an error by which SQLite reports a duplicate. */
export function isDuplicate(thrown: unknown): boolean {
  return thrown instanceof Error && /UNIQUE constraint failed/.test(thrown.message)
}
