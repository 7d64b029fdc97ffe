/**
 * What each caller may have under way of one kind, in all sessions together: counted from the start until it is over, also
 * when its call is over before. The owner has a share of the same size, which no grantee can use up.
 */
import { MortarError } from '../../protocol/core/errors.ts'

export class Shares {
  readonly #most: number
  readonly #what: string
  /** by whatever is shared, then by caller: the grantee, or null for the owner */
  readonly #underWay = new WeakMap<object, Map<string | null, number>>()

  /** `what`: for the local log. */
  constructor(most: number, what: string) {
    this.#most = most
    this.#what = what
  }

  /** Runs what counts as one of that caller's. Fails with limit-exceeded, and with what it fails with. */
  async hold<T>(shared: object, caller: string | null, run: () => Promise<T>): Promise<T> {
    const counts = this.#underWay.get(shared) ?? new Map<string | null, number>()
    this.#underWay.set(shared, counts)
    const before = counts.get(caller) ?? 0
    if (before >= this.#most) throw new MortarError('limit-exceeded', this.#what)
    counts.set(caller, before + 1)
    try {
      return await run()
    } finally {
      const left = (counts.get(caller) ?? 1) - 1
      if (left > 0) counts.set(caller, left)
      else counts.delete(caller)
    }
  }
}
