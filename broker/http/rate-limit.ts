/** How often somebody may call: a bucket per key that refills with time. Of more keys than are kept the one that called longest ago is forgotten. */
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'

const MOST_KEYS = 10_000

export class RateLimit {
  readonly #clock: Clock
  readonly #burst: number
  readonly #perSecond: number
  /** oldest first */
  readonly #buckets = new Map<string, { tokens: number; at: number }>()

  constructor(clock: Clock, { burst, perSecond }: { burst: number; perSecond: number }) {
    this.#clock = clock
    this.#burst = burst
    this.#perSecond = perSecond
  }

  /** Counts a call. `key`: of bounded length. Fails with rate-limited. */
  count(key: string): void {
    const now = this.#clock.now()
    const bucket = this.#buckets.get(key) ?? { tokens: this.#burst, at: now }
    // the newest last
    this.#buckets.delete(key)
    const [oldest] = this.#buckets.size < MOST_KEYS ? [] : this.#buckets.keys()
    if (oldest !== undefined) this.#buckets.delete(oldest)
    // a clock set back must not lock anybody out
    const seconds = Math.max(0, now - bucket.at) / 1000
    const tokens = Math.min(this.#burst, bucket.tokens + seconds * this.#perSecond)
    this.#buckets.set(key, { tokens: tokens < 1 ? tokens : tokens - 1, at: now })
    if (tokens < 1) throw new MortarError('rate-limited')
  }
}
