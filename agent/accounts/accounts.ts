/**
 * Accounts of this VM's people: a system account each, owner included, whose uid derives from the person's key. Who
 * comes first with a uid keeps it here: another key that leads to the same one is not let in. SPEC §2.9
 */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { type Account, accountOf } from '../../protocol/control/account.ts'
import type { Grant } from '../../protocol/control/grant.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { base64urlOf, object, uuid, z } from '../../protocol/core/schema.ts'
import type { Rights } from '../../protocol/rights.ts'
import { findUser, type User } from '../guest/users.ts'
import { failure, type Log } from '../process/log.ts'
import { replaceFile } from '../process/replace-file.ts'
import { makeHome } from './homes.ts'
import { driveGroups, type Person, SHELL, writeTables } from './tables.ts'

export interface AccountsOptions {
  /** the owner's Ed25519 key */
  readonly owner: Uint8Array
  /** keys (base64url) of those who were let in before, the earliest first */
  readonly known: readonly string[]
  /** where the system looks names up: root's own, in memory */
  readonly tables: string
  /** root's only, in memory, the same in every run of a boot */
  readonly runtime: string
  /** where homes are made, as /home */
  readonly homes: string
  readonly log: Log
  /** Derives an account from a key; tests give one with fewer uids. */
  readonly derive?: (key: Uint8Array) => Account
}

const schema = z
  .array(object({ key: base64urlOf(32), drives: z.array(uuid).max(LIMITS.grantItems).nullable() }))
  .max(LIMITS.grantees)

export class Accounts {
  readonly #options: AccountsOptions
  readonly #owner: Person
  /** key by uid: the owner, and everybody who was let in */
  readonly #keys = new Map<number, string>()
  /** grantees whose grant stands, by key */
  readonly #granted: Map<string, Person>
  /** what could not be written, as on a full disk, is written with the next change */
  #isWritten = false

  constructor(options: AccountsOptions) {
    this.#options = options
    this.#owner = this.#person(encodeBase64url(options.owner), null)
    for (const key of [this.#owner.key, ...options.known]) {
      const { id } = this.#person(key).account
      if (!this.#keys.has(id)) this.#keys.set(id, key)
    }
    // programs of grantees may have outlived the agent's last run, and keep their groups
    this.#granted = new Map(this.#readGranted().map(({ key, drives }) => [key, this.#person(key, drives)]))
    this.#write()
    this.#makeHome(this.#owner)
  }

  /** Keeps the grantee's uid for the grantee. Fails with grant-invalid when it is another key's. */
  claim({ grantee, drives }: Pick<Grant, 'grantee' | 'drives'>): Person {
    const person = this.#person(encodeBase64url(grantee), drives)
    const { id, name } = person.account
    const holder = this.#keys.get(id)
    if (holder !== undefined && holder !== person.key) {
      throw new MortarError('grant-invalid', `account ${name} is another key's`)
    }
    this.#keys.set(id, person.key)
    return person
  }

  /** Makes the account of a grantee who is let in, with the groups that the grant gives. Fails with grant-invalid. */
  enter(grant: Pick<Grant, 'grantee' | 'drives'>): void {
    const person = this.claim(grant)
    const before = this.#granted.get(person.key)
    if (before && isSameList(before.drives, person.drives) && this.#isWritten) return
    this.#granted.set(person.key, person)
    this.#write()
    this.#makeHome(person)
  }

  /** Takes the grantee's groups back. The account keeps its name, for its files do. */
  withdraw(key: string): void {
    if (this.#granted.delete(key) || !this.#isWritten) this.#write()
  }

  /** As whom a caller acts: the caller's own account, or who is named. Fails with user-unknown. */
  userOf({ grantee }: Pick<Rights, 'grantee'>, name?: string): User {
    if (name === undefined) return this.#asUser(this.#known(grantee ?? this.#owner.key))
    const named = this.#everybody().find(({ account }) => account.name === name)
    return named ? this.#asUser(named) : findUser(name)
  }

  /** Everybody who may use a drive now. */
  usersOfDrive(drive: string): readonly Person[] {
    return [this.#owner, ...this.#granted.values()].filter(({ drives }) => drives === null || drives.includes(drive))
  }

  /** The owner's uid. */
  get owner(): number {
    return this.#owner.account.id
  }

  /** The name of a uid, for messages. */
  nameOf(uid: number): string {
    const key = this.#keys.get(uid)
    return key === undefined ? String(uid) : this.#person(key).account.name
  }

  #everybody(): Person[] {
    return [...this.#keys.values()].map(key => this.#known(key))
  }

  /** With the drives of the grant that stands, or with none. */
  #known(key: string): Person {
    return key === this.#owner.key ? this.#owner : (this.#granted.get(key) ?? this.#person(key))
  }

  #person(key: string, drives: readonly string[] | null = []): Person {
    return { key, account: (this.#options.derive ?? accountOf)(decodeBase64url(key)), drives }
  }

  #asUser(person: Person): User {
    const { name, id } = person.account
    const groups = [id, ...driveGroups(person).map(group => group.id)]
    return { name, uid: id, gid: id, home: join(this.#options.homes, name), shell: SHELL, groups }
  }

  #write(): void {
    const { tables, homes } = this.#options
    this.#isWritten = false
    writeTables(tables, this.#everybody(), homes)
    const granted = [...this.#granted.values()].map(({ key, drives }) => ({ key, drives }))
    replaceFile(this.#grantedPath, JSON.stringify(granted))
    this.#isWritten = true
  }

  get #grantedPath(): string {
    return join(this.#options.runtime, 'granted.json')
  }

  #readGranted(): z.output<typeof schema> {
    try {
      return schema.parse(JSON.parse(readFileSync(this.#grantedPath, 'utf8')))
    } catch {
      // the first run of this boot
      return []
    }
  }

  /** Without a home, as on a full disk, programs begin in the root folder. */
  #makeHome({ account }: Person): void {
    try {
      makeHome(this.#options.homes, account)
    } catch (thrown) {
      this.#options.log('account.home-missing', failure(thrown))
    }
  }
}

function isSameList(one: readonly string[] | null, other: readonly string[] | null): boolean {
  return JSON.stringify(one) === JSON.stringify(other)
}
