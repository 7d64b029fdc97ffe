/** A clock that stands still until a test moves it. */
import type { Clock } from '../../protocol/core/clock.ts'

interface Timer {
  readonly at: number
  readonly callback: () => void
}

export class StillClock implements Clock {
  #now = 1_000_000
  readonly #timers = new Set<Timer>()

  now(): number {
    return this.#now
  }

  after(ms: number, callback: () => void): () => void {
    const timer = { at: this.#now + ms, callback }
    this.#timers.add(timer)
    return () => this.#timers.delete(timer)
  }

  /** how many calls back are still to come */
  get waiting(): number {
    return this.#timers.size
  }

  /** Moves on; what is due calls back at its own time and in order, also what was set meanwhile. */
  advance(ms: number): void {
    const end = this.#now + ms
    for (let next = this.#earliest(); next && next.at <= end; next = this.#earliest()) {
      this.#timers.delete(next)
      this.#now = Math.max(this.#now, next.at)
      next.callback()
    }
    this.#now = end
  }

  /** Moves on in steps, with time for both ends to answer after each. */
  async pass(ms: number, stepMs = ms): Promise<void> {
    for (let left = ms; left > 0; left -= stepMs) {
      this.advance(Math.min(left, stepMs))
      await settled()
    }
  }

  #earliest(): Timer | undefined {
    let earliest: Timer | undefined
    for (const timer of this.#timers) if (!earliest || timer.at < earliest.at) earliest = timer
    return earliest
  }
}

const TURNS = 8

/** Resolves once what was under way in memory has arrived. */
export async function settled(): Promise<void> {
  for (let i = 0; i < TURNS; i++) await new Promise<void>(resolve => setImmediate(resolve))
}
