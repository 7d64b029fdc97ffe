/** Accounts of a guest in which every caller acts as the user whose test this is, for tests of handlers. */
import { userInfo } from 'node:os'
import type { Accounts } from '../../agent/accounts/accounts.ts'
import { findUser } from '../../agent/guest/users.ts'

export const actingAsMyself = {
  userOf: (_rights, name = userInfo().username) => findUser(name),
  nameOf: uid => String(uid),
} satisfies Partial<Accounts> as unknown as Accounts
