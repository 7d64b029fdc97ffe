/**
 * Where programs run: of one person (the owner, or one grantee), as one account. A runner is for one place; a slice is for
 * one person. What runs where is written down for the next agent of this boot, in a folder of root's on tmpfs.
 */
import { createHash } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { join } from 'node:path'
import { object, uint, z } from '../../protocol/core/schema.ts'
import { replaceFile } from '../process/replace-file.ts'
import type { User } from './users.ts'

export interface Place {
  /** the grantee's key (base64url); null: the owner */
  readonly grantee: string | null
  readonly user: Pick<User, 'name' | 'uid' | 'gid' | 'groups'>
}

const schema = object({
  grantee: z.string().nullable(),
  user: object({ name: z.string(), uid: uint(), gid: uint(), groups: z.array(uint()) }),
})

/** `owner`, or a digest of the grantee's key: a word for names of units and files. */
export function personOf(grantee: string | null): string {
  return grantee === null ? 'owner' : createHash('sha256').update(grantee).digest('hex').slice(0, 32)
}

export function nameOf({ grantee, user }: Place): string {
  return `${personOf(grantee)}-${user.uid}`
}

/** The places where an agent of this boot has started a runner. */
export class PlaceBook {
  readonly folder: string

  /** `directory`: root's alone, the same in every run of a boot. */
  constructor(directory: string) {
    this.folder = join(directory, 'runners')
    mkdirSync(this.folder, { recursive: true, mode: 0o700 })
  }

  socketOf(place: Place): string {
    return join(this.folder, `${nameOf(place)}.sock`)
  }

  /** To be called before its runner is started, so that none is overlooked later. */
  write({ grantee, user: { name, uid, gid, groups } }: Place): void {
    const place = { grantee, user: { name, uid, gid, groups } }
    replaceFile(join(this.folder, `${nameOf(place)}.json`), JSON.stringify(place))
  }

  all(): Place[] {
    return readdirSync(this.folder)
      .filter(name => name.endsWith('.json'))
      .map(name => schema.parse(JSON.parse(readFileSync(join(this.folder, name), 'utf8'))))
  }

  of(person: string): Place[] {
    return this.all().filter(({ grantee }) => personOf(grantee) === person)
  }

  /** Nothing of the person runs any more. */
  forget(person: string): void {
    for (const place of this.of(person)) {
      rmSync(join(this.folder, `${nameOf(place)}.json`), { force: true })
      rmSync(this.socketOf(place), { force: true })
    }
  }
}
