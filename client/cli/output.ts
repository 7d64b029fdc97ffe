/** What people read: tables, sizes, times, and progress on stderr. */
import type { Clock } from '../../protocol/core/clock.ts'
import { printable } from '../vms/vm.ts'

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

/** what JSON leaves as it is and a terminal may act on, or show in another order */
const UNSAFE_IN_JSON = /\p{Cc}|\p{Bidi_Control}|[\u2028\u2029]/gu

/** JSON in one line, safe to show on a terminal whatever the broker or a VM wrote into it. */
export function toJson(value: object): string {
  const escaped = (character: string) => `\\u${character.charCodeAt(0).toString(16).padStart(4, '0')}`
  return JSON.stringify(value).replace(UNSAFE_IN_JSON, escaped)
}

/** Lines that tell a waiting person what goes on; silent unless `write` is given. */
export class Progress {
  readonly #clock: Clock
  readonly #write: ((line: string) => void) | null
  readonly #startMs: number
  /** works under way that were given a name of their own */
  #named = 0

  constructor(clock: Clock, write: ((line: string) => void) | null) {
    this.#clock = clock
    this.#write = write
    this.#startMs = clock.now()
  }

  line(text: string): void {
    const seconds = ((this.#clock.now() - this.#startMs) / 1000).toFixed(1)
    this.#write?.(`${seconds.padStart(6)} s  ${printable(text)}\n`)
  }

  /** What is worth knowing whenever it happens. */
  note(text: string): void {
    this.#write?.(`${printable(text)}\n`)
  }

  /** Says what is waited for once the work takes over two seconds, and every ten seconds that it still does. */
  async during<T>(text: string, work: Promise<T>): Promise<T> {
    this.#named++
    try {
      return await this.#tell(() => this.line(`${text} …`), work)
    } finally {
      this.#named--
    }
  }

  /** The same for a step, which is not worth a line while a work that it belongs to is told. */
  duringStep<T>(text: string, work: Promise<T>): Promise<T> {
    return this.#tell(() => this.#named === 0 && this.line(`${text} …`), work)
  }

  async #tell<T>(tell: () => void, work: Promise<T>): Promise<T> {
    let cancel = () => {}
    const say = () => {
      tell()
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
