/** Options of the project's own commands (npm run …): a wrong one is told in a line, with exit code 2. */
import { type ParseArgsConfig, parseArgs } from 'node:util'

export function readOptions<T extends ParseArgsConfig>(command: string, config: T): ReturnType<typeof parseArgs<T>> {
  try {
    return parseArgs(config)
  } catch (thrown) {
    console.error(`${command}: ${(thrown as Error).message}\n  → Run: npm run ${command} -- --help`)
    return process.exit(2)
  }
}
