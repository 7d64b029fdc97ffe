/** The accounts of people as passwd(5) and group(5) have them, in a folder in memory where the system's name lookup finds them. */
import { chmodSync, mkdirSync, readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Account, ALL_DRIVES, driveGroupOf } from '../../protocol/control/account.ts'
import { replaceFile } from '../process/replace-file.ts'

export const SHELL = '/bin/bash'

/** Somebody with an account in this VM. */
export interface Person {
  /** Ed25519 key, base64url */
  readonly key: string
  readonly account: Account
  /** ids of the drives that this person may use; null: every drive */
  readonly drives: readonly string[] | null
}

/** The groups of drives that a person is in. */
export function driveGroups({ drives }: Person): readonly Account[] {
  return drives === null ? [ALL_DRIVES] : drives.map(driveGroupOf)
}

/** passwd(5). Nobody logs in by a password. */
export function passwdOf(people: readonly Person[], homes: string): string {
  return people.map(({ account: { name, id } }) => `${name}:*:${id}:${id}::${join(homes, name)}:${SHELL}\n`).join('')
}

/** group(5). */
export function groupsOf(people: readonly Person[]): string {
  const groups = new Map<string, { readonly id: number; readonly members: string[] }>()
  groups.set(ALL_DRIVES.name, { id: ALL_DRIVES.id, members: [] })
  for (const person of people) {
    const { name, id } = person.account
    groups.set(name, { id, members: [] })
    for (const group of driveGroups(person)) {
      const entry = groups.get(group.name) ?? { id: group.id, members: [] }
      entry.members.push(name)
      groups.set(group.name, entry)
    }
  }
  return [...groups].map(([name, { id, members }]) => `${name}:*:${id}:${members.join()}\n`).join('')
}

/** Writes what has changed, each file whole. `folder`: root's own, in memory. */
export function writeTables(folder: string, people: readonly Person[], homes: string): void {
  mkdirSync(folder, { recursive: true })
  chmodSync(folder, 0o755)
  // the groups first: whoever finds the account finds its groups
  change(join(folder, 'group'), groupsOf(people))
  change(join(folder, 'passwd'), passwdOf(people, homes))
}

function change(path: string, content: string): void {
  // everybody looks names up
  if (readOr(path) !== content) replaceFile(path, content, { mode: 0o644 })
}

function readOr(path: string): string | null {
  try {
    return readFileSync(path, 'utf8')
  } catch {
    return null
  }
}
