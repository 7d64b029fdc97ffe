/** From where each user logged in last, some places each: whoever else comes from there is told from strangers elsewhere. SPEC §3.4 */
import { LIMITS } from '../../protocol/core/limits.ts'

export class Places {
  /** oldest first */
  readonly #ofUser = new Map<string, Set<string>>()
  /** how many users each place is one of */
  readonly #users = new Map<string, number>()

  has(place: string): boolean {
    return this.#users.has(place)
  }

  add(user: string, place: string): void {
    const places = this.#ofUser.get(user) ?? new Set()
    this.#ofUser.set(user, places)
    if (!places.delete(place)) this.#count(place, 1)
    places.add(place)
    const [oldest] = places
    if (places.size <= LIMITS.sshPlacesPerUser || oldest === undefined) return
    places.delete(oldest)
    this.#count(oldest, -1)
  }

  #count(place: string, step: 1 | -1): void {
    const users = (this.#users.get(place) ?? 0) + step
    if (users > 0) this.#users.set(place, users)
    else this.#users.delete(place)
  }
}
