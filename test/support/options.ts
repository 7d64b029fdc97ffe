/** Options of the project's own commands (npm run …): a wrong one is told in a line, with exit code 2. */
import { type ParseArgsConfig, parseArgs } from 'node:util'

export function readOptions<T extends ParseArgsConfig>(command: string, config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config)
  } catch (thrown) {
    return refuseOptions(command, (thrown as Error).message)
  }
}

/** An option's whole number in decimal digits, both ends of its range included. */
export function readNumber(
  command: string,
  { option, given, least, most }: { option: string; given: string; least: number; most: number },
): number {
  const number = /^\d+$/.test(given) ? Number(given) : Number.NaN
  if (number >= least && number <= most) return number
  const range = [least, most].map(end => end.toLocaleString('en-GB')).join(' to ')
  return refuseOptions(command, `${option} takes a whole number from ${range}, not ${JSON.stringify(given)}`)
}

/** Ends the program: says what is wrong with its options, and where help is. */
export function refuseOptions(command: string, why: string): never {
  console.error(`npm run ${command}: ${why}\n  → Run: npm run ${command} -- --help`)
  process.exit(2)
}
