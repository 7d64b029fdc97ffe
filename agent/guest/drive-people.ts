/**
 * Whose uid is whose on a drive. A uid has 27 bits, so that a key can be searched for which leads to somebody else's; each
 * drive keeps a record of the key that first came with a uid, in a file that only root can read and that only grows. In another
 * VM the record keeps a different key away from that person's files. SPEC §2.9
 */
import { closeSync, constants, fstatSync, fsyncSync, openSync, readFileSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { ALL_DRIVES, driveGroupOf } from '../../protocol/control/account.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { object, text, uuid, z } from '../../protocol/core/schema.ts'
import type { Person } from '../accounts/tables.ts'
import { replaceFile } from '../process/replace-file.ts'
import { RECORD_BYTES } from './drive-scripts.ts'

const LINE = /^(\d{1,10}) ([\w-]{43})$/

/** A mounted drive, as a later run of the agent finds it again. */
const noted = z.array(object({ serial: text(20), drive: uuid, name: text(63), readOnly: z.boolean() }))
type Noted = z.output<typeof noted>[number]

export interface DrivePeopleOptions {
  readonly users: { usersOfDrive(drive: string): readonly Person[]; readonly owner: number }
  /** root's only, in memory, the same in every run of a boot */
  readonly runtime: string
  /** where drives are mounted */
  readonly mounts?: string
  /** Whether a drive is still mounted, by its serial. */
  isMounted(serial: string): boolean
}

export class DrivePeople {
  readonly #options: DrivePeopleOptions
  /** by serial; without keys where the record cannot be read: nobody new comes to that drive */
  readonly #mounted = new Map<string, Noted & { readonly keys: Map<number, string> | null }>()

  constructor(options: DrivePeopleOptions) {
    this.#options = options
    for (const drive of this.#readNoted()) {
      if (options.isMounted(drive.serial)) this.#mounted.set(drive.serial, { ...drive, keys: this.#readKeys(drive) })
    }
  }

  /** uid and gids for the root of a drive. */
  numbersFor(drive: string): { owner: number; group: number; all: number } {
    return { owner: this.#options.users.owner, group: driveGroupOf(drive).id, all: ALL_DRIVES.id }
  }

  /** What the record of a drive has to say of those who may use it now. */
  linesFor(drive: string): string[] {
    return this.#options.users.usersOfDrive(drive).map(lineOf)
  }

  /** A drive was mounted; `record`: what the script that did it printed. */
  remember(drive: Noted, record: string): void {
    this.#mounted.set(drive.serial, { ...drive, keys: keysIn(record) })
    this.#note()
  }

  /** A drive was unmounted. */
  forget(serial: string): void {
    this.#mounted.delete(serial)
    this.#note()
  }

  /**
   * Before somebody is let in: every mounted drive that this person may use has to know the person, or get to know now. Fails
   * with drive-people when a drive knows the uid as another key's, or cannot note it.
   */
  require(person: Person): void {
    for (const known of this.#mounted.values()) {
      if (person.drives !== null && !person.drives.includes(known.drive)) continue
      if (!known.keys) throw new MortarError('drive-people', `the record of drive ${known.drive} is damaged`)
      const held = known.keys.get(person.account.id)
      if (held === person.key) continue
      if (held !== undefined) throw new MortarError('drive-people', `${person.account.name} on drive ${known.drive}`)
      // what can only be read gets no file of this person's
      if (known.readOnly) continue
      append(this.#recordPath(known), lineOf(person))
      known.keys.set(person.account.id, person.key)
    }
  }

  #readKeys(drive: Noted): Map<number, string> | null {
    try {
      return keysIn(readFileSync(this.#recordPath(drive), 'utf8'))
    } catch {
      return null
    }
  }

  #recordPath({ name }: Noted): string {
    return join(this.#options.mounts ?? '/drives', name, '.mortar/people')
  }

  get #notePath(): string {
    return join(this.#options.runtime, 'mounted.json')
  }

  #note(): void {
    const drives = [...this.#mounted.values()].map(({ serial, drive, name, readOnly }) => ({
      serial,
      drive,
      name,
      readOnly,
    }))
    replaceFile(this.#notePath, JSON.stringify(drives))
  }

  #readNoted(): Noted[] {
    try {
      return noted.parse(JSON.parse(readFileSync(this.#notePath, 'utf8')))
    } catch {
      // the first run of this boot
      return []
    }
  }
}

function lineOf({ account, key }: Person): string {
  return `${account.id} ${key}`
}

/** What follows the last line break was cut off while it was written, and let nobody in. Fails with drive-people. */
export function keysIn(record: string): Map<number, string> {
  const keys = new Map<number, string>()
  for (const line of record.split('\n').slice(0, -1)) {
    const [, uid, key] = LINE.exec(line) ?? []
    if (!uid || !key) throw new MortarError('drive-people', 'a line of the record is damaged')
    if (!keys.has(Number(uid))) keys.set(Number(uid), key)
  }
  return keys
}

function append(path: string, line: string): void {
  const file = openSync(path, constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW | constants.O_NONBLOCK)
  try {
    if (fstatSync(file).size + line.length >= RECORD_BYTES) throw new MortarError('drive-people', `${path} is full`)
    writeFileSync(file, `${line}\n`)
    // before anybody is let in, for a power cut would leave files of a uid that is nobody's
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
