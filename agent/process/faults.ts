/** Faults that nobody caught, and how much is said of them: from the time that sessions may come, no words, for they may quote what one carried. */
import { MortarError } from '../../protocol/core/errors.ts'
import { failure, log } from './log.ts'

let serving = false

/** Sessions may come from now on. A fault that nobody catches ends the agent by its place in the code: Node would print its words on the console. */
export function keepWords(): void {
  serving = true
  for (const event of ['uncaughtException', 'unhandledRejection'] as const) {
    process.on(event, thrown => {
      const fault = thrown instanceof MortarError ? new MortarError('internal', '', { cause: thrown }) : thrown
      log('agent.failed', failure(fault))
      process.exit(1)
    })
  }
}

/** Whether the words of an error may be printed. */
export const maySay = (): boolean => !serving
