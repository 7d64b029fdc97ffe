/** What people read: tables, sizes, times, and progress on stderr. */
import type { Clock } from '../../protocol/core/clock.ts'

/** Columns aligned by spaces; the first row is the heading. */
export function table(heading: readonly string[], rows: readonly (readonly string[])[]): string {
  const all = [heading, ...rows]
  const widths = heading.map((_, column) => Math.max(...all.map(row => (row[column] ?? '').length)))
  const line = (row: readonly string[]) => row.map((cell, column) => cell.padEnd(widths[column] ?? 0)).join('  ')
  return all.map(row => line(row).trimEnd()).join('\n')
}

/** `name: value` lines, aligned. */
export function facts(pairs: readonly (readonly [string, string])[]): string {
  const width = Math.max(...pairs.map(([name]) => name.length)) + 1
  return pairs.map(([name, value]) => `${`${name}:`.padEnd(width)} ${value}`.trimEnd()).join('\n')
}

const UNITS = ['B', 'KiB', 'MiB', 'GiB', 'TiB']

/** 67108864 → 64 MiB */
export function size(bytes: number): string {
  let [value, unit] = [bytes, 0]
  while (value >= 1024 && unit < UNITS.length - 1) {
    value /= 1024
    unit++
  }
  return `${Number.isInteger(value) ? value : value.toFixed(1)} ${UNITS[unit]}`
}

/** An ISO time of the broker, to the second. */
export const time = (iso: string) => iso.replace('T', ' ').replace(/(\.\d+)?Z$/, '')

/** what takes longer than this is said */
const PATIENCE_MS = 2_000
const REPEAT_MS = 10_000

/** Lines that tell a waiting person what goes on; silent unless `write` is given. */
export class Progress {
  readonly #clock: Clock
  readonly #write: ((line: string) => void) | null
  readonly #startMs: number

  constructor(clock: Clock, write: ((line: string) => void) | null) {
    this.#clock = clock
    this.#write = write
    this.#startMs = clock.now()
  }

  line(text: string): void {
    const seconds = ((this.#clock.now() - this.#startMs) / 1000).toFixed(1)
    this.#write?.(`${seconds.padStart(6)} s  ${text}\n`)
  }

  /** Says what is waited for once the work takes over two seconds, and every ten seconds that it still does. */
  async during<T>(text: string, work: Promise<T>): Promise<T> {
    let cancel = () => {}
    const say = () => {
      this.line(`${text} …`)
      cancel = this.#clock.after(REPEAT_MS, say)
    }
    cancel = this.#clock.after(PATIENCE_MS, say)
    try {
      return await work
    } finally {
      cancel()
    }
  }
}
