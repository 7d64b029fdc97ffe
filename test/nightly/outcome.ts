/** One number of the nightly run: what was asked for, what was done, and whether it held. */

export interface Outcome {
  /** A1 to A14 */
  readonly id: string
  readonly what: string
  readonly asked: string
  readonly done: string
  readonly held: boolean
  /** as the clock ran */
  readonly seconds: number
  /** what else was measured, or what did not hold */
  readonly note: string
}

export const inDigits = (number: number): string => number.toLocaleString('en-GB')
export const inMiB = (bytes: number): string => `${(bytes / 2 ** 20).toFixed(1)} MiB`
