/** The agent's places for sessions: who has them, what is always the owner's, and who goes when too many are not proven. SPEC §4 */
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'

/** Who has a place: the owner, or a grantee (base64url). Of an SSH connection the broker says whose it is, before sshd knows. */
export type Holder = 'owner' | { readonly grantee: string }

export const holderOf = (grantee: string | null): Holder => (grantee === null ? 'owner' : { grantee })

/** The place of a session whose caller has proven nothing yet. */
export interface Unproven {
  /** Takes a place of the caller's for it. Fails with limit-exceeded, or with connection-lost when it was dropped meanwhile. */
  prove(holder: Holder): void
  /** the session is over, whether it was proven or not */
  leave(): void
}

interface Newcomer {
  readonly drop: () => void
}

export class Places {
  /** oldest first */
  readonly #unproven = new Set<Newcomer>()
  readonly #taken = new Set<{ readonly holder: Holder }>()

  /** Nobody could be let in, not even the owner. */
  get full(): boolean {
    return this.#taken.size >= LIMITS.sessions
  }

  /**
   * A session whose caller is still to prove itself; `drop` cuts it. Beyond the limit the oldest goes, as with the broker's
   * sockets, and not the newest: whoever fills the places first would otherwise keep everybody out for as long as a handshake
   * may take, and again. To cut somebody's handshake short so many sessions must begin during its few round trips, and
   * a broker joins no caller but the owner to this VM in more than half as many at a time.
   */
  enter(drop: () => void): Unproven {
    const newcomer = { drop }
    this.#unproven.add(newcomer)
    const [oldest] = this.#unproven
    if (this.#unproven.size > LIMITS.unprovenSessions && oldest) {
      this.#unproven.delete(oldest)
      oldest.drop()
    }
    let leave = () => {}
    return {
      prove: holder => {
        if (!this.#unproven.has(newcomer)) throw new MortarError('connection-lost', 'dropped for a newer one')
        leave = this.take(holder)
        this.#unproven.delete(newcomer)
      },
      leave: () => {
        this.#unproven.delete(newcomer)
        leave()
      },
    }
  }

  /** A place for a session; the result gives it back. Fails with limit-exceeded. */
  take(holder: Holder): () => void {
    const others = [...this.#taken].filter(taken => taken.holder !== 'owner')
    // what all the others may have together leaves the owner a share
    const isShareFull = holder !== 'owner' && others.length >= LIMITS.sessions - LIMITS.sessionsOwner
    if (this.full || isShareFull || this.#countOf(holder) >= LIMITS.sessionsEach) {
      throw new MortarError('limit-exceeded', 'sessions')
    }
    const place = { holder }
    this.#taken.add(place)
    return () => void this.#taken.delete(place)
  }

  /** sessions of that grantee */
  #countOf(holder: Holder): number {
    if (typeof holder === 'string') return 0
    const isSame = (other: Holder) => typeof other !== 'string' && other.grantee === holder.grantee
    return [...this.#taken].filter(taken => isSame(taken.holder)).length
  }
}
