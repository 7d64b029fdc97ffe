/** grant-revoke and grant-list: the owner takes grants back, and sees which ones this VM has taken. SPEC §9.6 */
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'

/** entries in one message */
const AT_ONCE = 32

export const grantRevoke: Handlers<Guest>['grant-revoke'] = async (call, guest) => {
  const { grantee } = call.params
  const revoked = await guest.grants.revoke(grantee)
  guest.log('grant.revoked')
  call.accept(revoked)
}

export const grantList: Handlers<Guest>['grant-list'] = async (call, guest) => {
  call.accept({})
  const known = guest.grants.known()
  for (let from = 0; from < known.length; from += AT_ONCE) call.post('known', known.slice(from, from + AT_ONCE))
}
