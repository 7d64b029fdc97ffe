/** The agent's log: one line of JSON per event to stderr. Names of things and codes only; no secret, no content of a stream. */
import { asMortarError } from '../protocol/core/errors.ts'

/** Every event there is, with what it says. */
export type LogEvent =
  | 'agent.started'
  | 'agent.idle'
  | 'agent.stopping'
  | 'agent.failed'
  | 'keys.volatile'
  | 'control.lost'
  | 'enrolled'
  | 'boot.disowned'
  | 'enrolment.refused'
  | 'session.opened'
  | 'session.ended'
  | 'session.failed'
  | 'session.declined'
  | 'session.dropped'
  | 'command.failed'
  | 'account.home-missing'
  | 'drive.formatted'
  | 'drive.unlocked'
  | 'drive.locked'
  | 'grant.revoked'
  | 'runner.lost'
  | 'ssh.key-delivered'
  | 'ssh.opened'
  | 'ssh.ended'

export type LogFields = Readonly<Record<string, string | number | boolean | null>>
export type Log = (event: LogEvent, fields?: LogFields) => void

// a journal that goes away must not take the agent with it
process.stderr.on('error', () => {})

/** Writes to stderr. */
export const log: Log = (event, fields = {}) => {
  process.stderr.write(`${JSON.stringify({ time: new Date().toISOString(), event, ...fields })}\n`)
}

/** Code and detail of a failure, as fields of a log line. */
export function failure(thrown: unknown): LogFields {
  const error = asMortarError(thrown)
  return { code: error.code, ...(error.detail === '' ? {} : { detail: error.detail.slice(0, 500) }) }
}
