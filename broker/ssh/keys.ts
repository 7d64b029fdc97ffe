/** The SSH keys of a user at the jump host: added, listed and removed. SPEC §3.3 */
import { createHash } from 'node:crypto'
import type { SshKey } from '../../protocol/control/api.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { SshKeyRecord, SshKeyStore } from '../store/ssh-key-store.ts'

const NAME_LENGTH = 64

export class SshKeys {
  readonly #store: SshKeyStore
  readonly #clock: Clock
  readonly #onRemoved: (key: string) => void

  /** `onRemoved` ends what is logged in by a key ("type base64"). */
  constructor(store: SshKeyStore, clock: Clock, onRemoved: (key: string) => void) {
    this.#store = store
    this.#clock = clock
    this.#onRemoved = onRemoved
  }

  list(user: string): SshKey[] {
    return this.#store.list(user).map(shown)
  }

  /** Takes an OpenSSH public key line; its comment is the key's name. Fails with bad-request or limit-exceeded. */
  add(user: string, line: string): SshKey {
    const { key, name } = parseLine(line)
    const known = this.#store.list(user)
    if (known.length >= LIMITS.sshKeysPerUser && !known.some(each => each.key === key)) {
      throw new MortarError('limit-exceeded', `${LIMITS.sshKeysPerUser} SSH keys; remove one`)
    }
    const record = { key, name, added: new Date(this.#clock.now()).toISOString() }
    this.#store.add(record, user)
    return shown(this.#store.list(user).find(each => each.key === key) ?? record)
  }

  /** Connections that are logged in by the key end. Fails with not-found. */
  remove(user: string, id: string): void {
    const record = this.#store.list(user).find(each => idOf(each.key) === id)
    if (!record) throw new MortarError('not-found', `SSH key ${id}`)
    this.#store.remove(record.key, user)
    this.#onRemoved(record.key)
  }
}

const digestOf = (key: string) => createHash('sha256').update(Buffer.from(key.split(' ')[1] ?? '', 'base64'))
const idOf = (key: string) => digestOf(key).digest('base64url')

function shown({ key, name, added }: SshKeyRecord): SshKey {
  return {
    id: idOf(key),
    type: key.split(' ')[0] ?? '',
    fingerprint: `SHA256:${digestOf(key).digest('base64').replace(/=+$/, '')}`,
    name,
    addedAt: added,
  }
}

/** "type base64" in the one form that logins are compared with, and the comment. Fails with bad-request. */
function parseLine(line: string): { key: string; name: string } {
  const [type = '', textual = '', ...comment] = line.trim().split(/ +/)
  const blob = Buffer.from(textual, 'base64')
  // the blob begins with the type again (RFC 4253 section 6.6)
  const named = blob.length > 4 ? blob.subarray(4, 4 + blob.readUInt32BE(0)).toString('latin1') : ''
  if (!/^[a-z0-9@.-]+$/.test(type) || named !== type) throw new MortarError('bad-request', 'not an OpenSSH public key')
  return { key: `${type} ${blob.toString('base64')}`, name: comment.join(' ').slice(0, NAME_LENGTH) }
}
