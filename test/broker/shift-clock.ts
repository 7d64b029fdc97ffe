/** The host's clock, which a test can put forward: what is due by then happens at once. */
import type { Clock } from '../../protocol/core/clock.ts'

interface Alarm {
  readonly due: number
  readonly ring: () => void
  timer: NodeJS.Timeout
}

export class ShiftClock implements Clock {
  #offsetMs = 0
  readonly #alarms = new Set<Alarm>()

  now(): number {
    return Date.now() + this.#offsetMs
  }

  after(ms: number, callback: () => void): () => void {
    const ring = () => {
      cancel()
      callback()
    }
    const alarm: Alarm = { due: this.now() + ms, ring, timer: setTimeout(ring, ms) }
    const cancel = () => {
      clearTimeout(alarm.timer)
      this.#alarms.delete(alarm)
    }
    alarm.timer.unref()
    this.#alarms.add(alarm)
    return cancel
  }

  /** Puts the clock forward. */
  advance(ms: number): void {
    this.#offsetMs += ms
    for (const alarm of [...this.#alarms]) {
      clearTimeout(alarm.timer)
      if (alarm.due <= this.now()) alarm.ring()
      else alarm.timer = setTimeout(alarm.ring, alarm.due - this.now()).unref()
    }
  }
}
