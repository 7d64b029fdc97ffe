/**
 * Things that somebody holds, each in the group that it is counted in: an address, a VM, a user. Nobody is refused: a group
 * that takes too much loses its own oldest, and when all groups together have too much, the largest loses its oldest. So
 * what one group takes costs no other group anything. SPEC §3
 */

export interface ShareLimits {
  /** things of one group */
  readonly each: number
  /** things of all groups */
  readonly most: number
}

export class Shares<T> {
  readonly #drop: (thing: T) => void
  readonly #limits: ShareLimits
  /** oldest first */
  readonly #groups = new Map<string, Set<T>>()
  readonly #groupOf = new Map<T, string>()

  /** `drop` gives up a thing that was pushed out. */
  constructor(drop: (thing: T) => void, limits: ShareLimits) {
    this.#drop = drop
    this.#limits = limits
  }

  /** Counts the thing in a group; one that is counted in another already moves. `each`: the group's own limit, where it has one. */
  add(thing: T, group: string, each = this.#limits.each): void {
    this.delete(thing)
    const things = this.#groups.get(group) ?? new Set()
    this.#groups.set(group, things.add(thing))
    this.#groupOf.set(thing, group)
    if (things.size > each) this.#pushOut(things)
    else if (this.#groupOf.size > this.#limits.most) this.#pushOut(this.#largest())
  }

  has(thing: T): boolean {
    return this.#groupOf.has(thing)
  }

  /** It is counted no more: it has ended, or counts elsewhere. */
  delete(thing: T): void {
    const group = this.#groupOf.get(thing)
    if (group === undefined) return
    this.#groupOf.delete(thing)
    const things = this.#groups.get(group)
    things?.delete(thing)
    if (things?.size === 0) this.#groups.delete(group)
  }

  [Symbol.iterator](): IterableIterator<T> {
    return this.#groupOf.keys()
  }

  #largest(): Set<T> {
    return [...this.#groups.values()].reduce((largest, each) => (each.size > largest.size ? each : largest))
  }

  #pushOut(things: Set<T>): void {
    const [oldest] = things
    if (oldest === undefined) return
    this.delete(oldest)
    this.#drop(oldest)
  }
}
