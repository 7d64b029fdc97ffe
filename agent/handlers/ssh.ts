/** ssh: the guest's host key out, the user's key in; from then on, and until it expires, sshd answers on joined pairs of kind ssh. SPEC §9.5 */
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'
import { findUser } from '../guest/users.ts'

export const ssh: Handlers<Guest>['ssh'] = async (call, guest) => {
  const { userKey, validSeconds } = call.params
  const user = findUser(call.params.user ?? guest.config.defaultUser)
  const hostKeys = await guest.ssh.authorise(user, userKey, validSeconds, call.rights, call.signal)
  guest.log('ssh.key-delivered')
  call.accept({ hostKeys, user: user.name })
}
