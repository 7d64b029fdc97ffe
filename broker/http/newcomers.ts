/**
 * Sockets that have not authenticated yet, each in the group that it is counted in. Nobody is refused: who opens too many
 * pushes out the oldest of its own group, so that its sockets cost no other group's. SPEC §3
 */
import { LIMITS } from '../../protocol/core/limits.ts'

export class Newcomers<S> {
  readonly #drop: (socket: S) => void
  readonly #most: number
  /** oldest first */
  readonly #groups = new Map<string, Set<S>>()
  readonly #groupOf = new Map<S, string>()

  /** `drop` closes a socket that was pushed out; `most`: sockets of all groups, beyond which the largest group loses its oldest. */
  constructor(drop: (socket: S) => void, most = Number.POSITIVE_INFINITY) {
    this.#drop = drop
    this.#most = most
  }

  add(socket: S, group: string): void {
    const sockets = this.#groups.get(group) ?? new Set()
    this.#groups.set(group, sockets.add(socket))
    this.#groupOf.set(socket, group)
    if (sockets.size > LIMITS.unauthenticatedPerAddress) this.#pushOut(sockets)
    else if (this.#groupOf.size > this.#most) this.#pushOut(this.#largest())
  }

  has(socket: S): boolean {
    return this.#groupOf.has(socket)
  }

  /** It has authenticated, or is closed. */
  delete(socket: S): void {
    const group = this.#groupOf.get(socket)
    if (group === undefined) return
    this.#groupOf.delete(socket)
    const sockets = this.#groups.get(group)
    sockets?.delete(socket)
    if (sockets?.size === 0) this.#groups.delete(group)
  }

  [Symbol.iterator](): IterableIterator<S> {
    return this.#groupOf.keys()
  }

  #largest(): Set<S> {
    return [...this.#groups.values()].reduce((largest, each) => (each.size > largest.size ? each : largest))
  }

  #pushOut(sockets: Set<S>): void {
    const [oldest] = sockets
    if (oldest === undefined) return
    this.delete(oldest)
    this.#drop(oldest)
  }
}
