/** grant-revoke: the owner takes a grant back; the grantee's sessions end. SPEC §9.6 */
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'

export const grantRevoke: Handlers<Guest>['grant-revoke'] = async (call, guest) => {
  const { grantee, serial } = call.params
  guest.grants.revoke(grantee, serial)
  guest.log('grant.revoked')
  call.accept({})
}
