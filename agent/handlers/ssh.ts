/** ssh: the host key of the caller's own sshd out, the caller's key in; from then on, and until it expires, that sshd answers on joined pairs of kind ssh. SPEC §9.5 */
import type { Handlers } from '../../protocol/session.ts'
import type { Guest } from '../guest/guest.ts'

export const ssh: Handlers<Guest>['ssh'] = async (call, guest) => {
  const { userKey, validSeconds } = call.params
  const user = guest.accounts.userOf(call.rights)
  const hostKeys = await guest.ssh.authorise(user, userKey, validSeconds, call.rights, call.signal)
  guest.log('ssh.key-delivered')
  call.accept({ hostKeys, user: user.name })
}
