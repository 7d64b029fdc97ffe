/** Who changes what, one after another for each name: the owner before grantees, and whoever asked first among equals. */
export interface Turn {
  /** ends the waiting, and not what has begun */
  readonly signal: AbortSignal
  readonly isOwner: boolean
  /** it is part of one that has its turn already, and of which others may wait: it comes before all that wait */
  readonly isPart?: boolean
}

interface Waiting {
  readonly names: readonly string[]
  readonly rank: number
  begin(): void
}

const rankOf = ({ isOwner, isPart = false }: Turn) => (isPart ? 0 : isOwner ? 1 : 2)

export class Turns {
  /** names of what runs */
  readonly #busy = new Set<string>()
  /** by rank, then as they came */
  #waiting: Waiting[] = []

  /** Runs it once nothing else runs for any of these names. Fails with the signal's reason when that comes first. */
  async take<T>(names: readonly string[], turn: Turn, run: () => Promise<T>): Promise<T> {
    const { signal } = turn
    signal.throwIfAborted()
    await this.#wait(names, turn)
    try {
      signal.throwIfAborted()
      return await run()
    } finally {
      for (const name of names) this.#busy.delete(name)
      this.#next()
    }
  }

  #wait(names: readonly string[], turn: Turn): Promise<void> {
    const { signal } = turn
    const rank = rankOf(turn)
    return new Promise((resolve, reject) => {
      const begin = () => {
        signal.removeEventListener('abort', leave)
        resolve()
      }
      const waiting = { names, rank, begin }
      const leave = () => {
        this.#waiting = this.#waiting.filter(other => other !== waiting)
        reject(signal.reason)
        this.#next()
      }
      signal.addEventListener('abort', leave, { once: true })
      const before = this.#waiting.findIndex(other => other.rank > rank)
      this.#waiting.splice(before < 0 ? this.#waiting.length : before, 0, waiting)
      this.#next()
    })
  }

  /** Begins what may begin. What waits for one name has its other names kept for it. */
  #next(): void {
    const taken = new Set(this.#busy)
    const due = this.#waiting.filter(({ names }) => {
      const isFree = names.every(name => !taken.has(name))
      for (const name of names) taken.add(name)
      return isFree
    })
    this.#waiting = this.#waiting.filter(waiting => !due.includes(waiting))
    for (const { names, begin } of due) {
      for (const name of names) this.#busy.add(name)
      begin()
    }
  }
}
