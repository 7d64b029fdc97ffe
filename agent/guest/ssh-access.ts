/**
 * SSH into the guest without an open port: `sshd -i` on a joined pair, for each connection one, which runs as the person it
 * is for, beside that person's other programs. Everybody has a host key of their own, new at each boot and kept in memory;
 * users' keys come over the encrypted channel and expire. SPEC §9.5
 */
import { existsSync } from 'node:fs'
import { callAt } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import type { Rights } from '../../protocol/rights.ts'
import { deadlineClock } from '../process/clock.ts'
import type { Runner } from './runner.ts'
import { makeHostKey, SSHD, SshDoor } from './ssh-door.ts'
import type { User } from './users.ts'

type Whose = Pick<Rights, 'grantee' | 'endsMs'>

export class SshAccess {
  readonly #runner: Runner
  readonly #folder: string
  /** by grantee; null: the owner's */
  readonly #doors = new Map<string | null, SshDoor>()
  /** public ones, by account */
  readonly #hostKeys = new Map<string, Promise<string>>()

  /** `folder`: root's own, in memory, which everybody may pass through; the same in every run of a boot. */
  constructor(runner: Runner, folder: string) {
    this.#runner = runner
    this.#folder = folder
    // keys that an earlier run of the agent took are delivered again by their clients
    SshDoor.forgetKeys(folder)
  }

  /** True while some key that the person delivered has not expired. */
  authorised(grantee: string | null): boolean {
    return this.#doors.get(grantee)?.isOpen ?? false
  }

  /**
   * Lets the holder of `key` log in as the caller's own account, `user`, for some seconds, at most until the caller's rights
   * end. Resolves with the public host keys of that person's sshd. Nothing is delivered once `signal` is aborted, or the
   * grantee's rights were withdrawn, though the host key was still being made. Fails with limit-exceeded, grant-revoked, or
   * why it was aborted.
   */
  async authorise(
    user: User,
    key: string,
    validSeconds: number,
    { grantee, endsMs }: Whose,
    signal: AbortSignal,
  ): Promise<string[]> {
    if (!existsSync(SSHD)) throw new MortarError('exec-not-found', SSHD)
    // there from now on, so that a withdrawal during the wait below is seen after it
    const door = this.#doors.get(grantee) ?? this.#makeDoor(user, { grantee, endsMs })
    const hostKey = await this.#hostKeyOf(user)
    if (this.#doors.get(grantee) !== door) throw new MortarError('grant-revoked', grantee ?? '')
    signal.throwIfAborted()
    door.admit(key, Math.min(Date.now() + validSeconds * 1000, endsMs ?? Number.POSITIVE_INFINITY))
    return [hostKey]
  }

  #hostKeyOf(user: User): Promise<string> {
    const known = this.#hostKeys.get(user.name)
    if (known) return known
    const making = makeHostKey(this.#folder, user)
    this.#hostKeys.set(user.name, making)
    making.catch(() => this.#hostKeys.delete(user.name))
    return making
  }

  #makeDoor(user: User, { grantee, endsMs }: Whose): SshDoor {
    // a login outlasts its key, but not the grant
    const cancel = endsMs === null ? () => {} : callAt(deadlineClock, endsMs, () => this.withdraw(grantee))
    const door = new SshDoor(this.#runner, { folder: this.#folder, user, grantee, onClosed: cancel })
    this.#doors.set(grantee, door)
    return door
  }

  /** Forgets the keys that a grantee delivered, and ends the connections that they opened. */
  withdraw(grantee: string | null): void {
    const door = this.#doors.get(grantee)
    this.#doors.delete(grantee)
    door?.close()
  }

  /** Serves one connection of that person; resolves when either side has ended it. Fails with ssh-not-authorised. */
  async serve(transport: Transport, grantee: string | null): Promise<void> {
    const door = this.#doors.get(grantee)
    if (!door) throw new MortarError('ssh-not-authorised')
    await door.serve(transport)
  }
}
