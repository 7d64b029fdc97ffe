/**
 * How often keys of drives may be tried: so often per caller, drive and minute, in all sessions of the caller together, and
 * so often per session. A grantee who tries wrong ones so keeps nobody else out.
 * Counted from the start, so that attempts at the same time count too; one that succeeds is taken back. SPEC §9.4
 */
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Rights } from '../../protocol/rights.ts'

const MINUTE_MS = 60_000

export class SecretAttempts {
  readonly #clock: Clock
  /** by caller and the drive's serial: when those of the last minute began */
  readonly #recent = new Map<string, number[]>()
  /** by session, for which its rights stand: they are made anew for each */
  readonly #ofSession = new WeakMap<Rights, number>()

  constructor(clock: Clock) {
    this.#clock = clock
  }

  /** Counts an attempt at the drive of that serial. What it returns is to be called when it succeeded. Fails with rate-limited. */
  begin(serial: string, session: Rights): () => void {
    const now = this.#clock.now()
    for (const [each, times] of this.#recent) {
      const recent = times.filter(time => time > now - MINUTE_MS)
      if (recent.length > 0) this.#recent.set(each, recent)
      else this.#recent.delete(each)
    }
    const key = `${session.grantee ?? 'owner'} ${serial}`
    const recent = this.#recent.get(key) ?? []
    const inSession = this.#ofSession.get(session) ?? 0
    if (recent.length >= LIMITS.secretsPerMinute) throw new MortarError('rate-limited', `keys for drive ${serial}`)
    if (inSession >= LIMITS.secretsPerSession) throw new MortarError('rate-limited', 'keys in this session')
    this.#recent.set(key, [...recent, now])
    this.#ofSession.set(session, inSession + 1)
    return () => {
      const times = [...(this.#recent.get(key) ?? [])]
      if (times.includes(now)) times.splice(times.indexOf(now), 1)
      this.#recent.set(key, times)
      this.#ofSession.set(session, (this.#ofSession.get(session) ?? 1) - 1)
    }
  }
}
