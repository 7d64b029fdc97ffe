/** Users of the guest, from /etc/passwd and /etc/group. */
import { readFileSync } from 'node:fs'
import { MortarError } from '../../protocol/core/errors.ts'

export interface User {
  readonly name: string
  readonly uid: number
  readonly gid: number
  readonly home: string
  readonly shell: string
  /** the primary group and all others */
  readonly groups: readonly number[]
}

/** Looks a user up. Fails with user-unknown. */
export function findUser(name: string): User {
  const user = parseUser(name, readFileSync('/etc/passwd', 'utf8'), readFileSync('/etc/group', 'utf8'))
  if (!user) throw new MortarError('user-unknown', name)
  return user
}

/** The user of that name in the texts of passwd(5) and group(5), or null. */
export function parseUser(name: string, passwd: string, group: string): User | null {
  for (const line of passwd.split('\n')) {
    const [login, , uid, gid, , home, shell] = line.split(':')
    if (login !== name || !/^\d+$/.test(uid ?? '') || !/^\d+$/.test(gid ?? '')) continue
    const others = group
      .split('\n')
      .map(entry => entry.split(':'))
      .filter(([, , , members]) => members?.split(',').includes(name))
      .map(([, , id]) => Number(id))
    return {
      name,
      uid: Number(uid),
      gid: Number(gid),
      home: home || '/',
      shell: shell || '/bin/sh',
      groups: [...new Set([Number(gid), ...others])],
    }
  }
  return null
}
