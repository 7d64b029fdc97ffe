/** The database file: SQLite with a write-ahead log, every commit on disk before it is answered; its tables, step by step. */
import { chmodSync } from 'node:fs'
import { DatabaseSync } from 'node:sqlite'

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
   CREATE TABLE ssh_keys (key TEXT PRIMARY KEY, owner TEXT NOT NULL, added TEXT NOT NULL) STRICT;`,
]

/** Opens or makes the database. The caller closes it. */
export function openDatabase(path: string): DatabaseSync {
  const database = new DatabaseSync(path)
  if (path !== ':memory:') chmodSync(path, 0o600)
  database.exec('PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON')
  const { user_version: version } = database.prepare('PRAGMA user_version').get() as { user_version: number }
  for (const [index, step] of MIGRATIONS.entries()) {
    if (index < version) continue
    database.exec(`BEGIN; ${step}; PRAGMA user_version = ${index + 1}; COMMIT`)
  }
  return database
}

/** True for an error by which SQLite reports a duplicate. */
export function isDuplicate(thrown: unknown): boolean {
  return thrown instanceof Error && /UNIQUE constraint failed/.test(thrown.message)
}
