/**
 * The agent's log: one line of JSON per event. The host reads the console, so what an event may say is a closed set, by
 * event: ids that the broker gave out, codes, counts. A text of any other kind cannot be said, whoever it comes from.
 */
import { asMortarError, isErrorCode } from '../../protocol/core/errors.ts'

/** What a field may hold; a value of another shape is left out. */
const KINDS = {
  /** of protocol/core/errors.ts */
  code: isErrorCode,
  /** what the broker knows a thing by */
  id: (value: unknown) => typeof value === 'string' && /^[0-9a-f-]{36}$/.test(value),
  count: (value: unknown) => typeof value === 'number' && Number.isSafeInteger(value),
  version: (value: unknown) => typeof value === 'string' && /^\d+\.\d+\.\d+(-[a-z]+)?$/.test(value),
  /** the kernel's name for what went wrong with the network or a file of the agent's own */
  errno: (value: unknown) => typeof value === 'string' && /^E[A-Z0-9]{2,15}$/.test(value),
  /** file, line and column of the agent's own code */
  place: (value: unknown) => typeof value === 'string' && /^[a-z0-9-]+\.[cm]?[jt]s:\d+:\d+$/.test(value),
  /** of a session or a boot, to be compared (SPEC §5.3) */
  words: (value: unknown) => typeof value === 'string' && /^[a-z]{3,8}( [a-z]{3,8}){5,11}$/.test(value),
  /** what the broker makes of a boot */
  standing: (value: unknown) => value === 'current' || value === 'waiting',
} as const
type Kind = keyof typeof KINDS
type Value = string | number | null | undefined

const fault = { code: 'code', errno: 'errno', place: 'place' } as const

/** Every event there is, where it goes, and what it may say. The console gets the stages of a boot; the rest stays in the guest's journal. */
export const EVENTS = {
  'agent.started': { to: 'console', says: { version: 'version', vm: 'id', generation: 'count' } },
  'agent.idle': { to: 'journal', says: { rssBytes: 'count' } },
  'agent.stopping': { to: 'console', says: {} },
  'agent.failed': { to: 'console', says: fault },
  'keys.volatile': { to: 'console', says: {} },
  'control.lost': { to: 'console', says: fault },
  enrolled: { to: 'console', says: { vm: 'id', generation: 'count', standing: 'standing', words: 'words' } },
  'boot.disowned': { to: 'console', says: { boot: 'id' } },
  'enrolment.refused': { to: 'console', says: fault },
  'session.opened': { to: 'console', says: { session: 'id', words: 'words' } },
  'session.ended': { to: 'journal', says: { session: 'id' } },
  'session.failed': { to: 'journal', says: { session: 'id', refusal: 'code', ...fault } },
  'session.declined': { to: 'journal', says: { session: 'id', code: 'code' } },
  'session.dropped': { to: 'journal', says: { session: 'id' } },
  /** of a call that failed inside; what was refused is told to who asked, and to nobody else */
  'command.failed': { to: 'journal', says: { session: 'id', ...fault } },
  /** the account's home could not be made; programs start in / */
  'account.home-missing': { to: 'journal', says: fault },
  'drive.formatted': { to: 'journal', says: {} },
  'drive.unlocked': { to: 'journal', says: {} },
  'drive.locked': { to: 'journal', says: {} },
  'grant.revoked': { to: 'journal', says: {} },
  /** a step of taking back what a grantee had failed; it is tried again */
  'grant.not-withdrawn': { to: 'journal', says: fault },
  'runner.lost': { to: 'journal', says: { code: 'code' } },
  'ssh.key-delivered': { to: 'journal', says: {} },
  'ssh.opened': { to: 'journal', says: { session: 'id' } },
  'ssh.ended': { to: 'journal', says: { session: 'id' } },
} as const satisfies Record<string, { to: 'console' | 'journal'; says: Readonly<Record<string, Kind>> }>

export type LogEvent = keyof typeof EVENTS
export type LogFields<E extends LogEvent> = Readonly<Partial<Record<keyof (typeof EVENTS)[E]['says'], Value>>>
export type Log = <E extends LogEvent>(event: E, fields?: LogFields<E>) => void

// a journal that goes away must not take the agent with it
process.stdout.on('error', () => {})
process.stderr.on('error', () => {})

/** Writes to stdout what is for the console, to stderr what is not. */
export const log: Log = (event, fields) => {
  const { to, says }: { to: string; says: Readonly<Record<string, Kind>> } = EVENTS[event]
  const given: Readonly<Record<string, unknown>> = fields ?? {}
  const said = Object.entries(says).flatMap(([name, kind]) => (KINDS[kind](given[name]) ? [[name, given[name]]] : []))
  const line = JSON.stringify({ time: new Date().toISOString(), event, ...Object.fromEntries(said) })
  const stream = to === 'console' ? process.stdout : process.stderr
  stream.write(`${line}\n`)
}

/** What a log line may say of a failure. Its words stay out of it: they may quote what somebody sent. */
export function failure(thrown: unknown): LogFields<'agent.failed'> {
  const error = asMortarError(thrown)
  const causes = [error, error.cause, (error.cause as Error | undefined)?.cause] as { code?: unknown }[]
  return {
    code: error.code,
    errno: causes.map(cause => cause?.code).find(code => KINDS.errno(code) && !isErrorCode(code)) as string | undefined,
    place: error.code === 'internal' ? placeOf(error.cause ?? error) : undefined,
  }
}

/** Where in our own code it was thrown. */
function placeOf(thrown: unknown): string | undefined {
  const stack = thrown instanceof Error ? (thrown.stack ?? '').slice(thrown.message.length) : ''
  return /^ +at .*?([a-z0-9-]+\.[cm]?[jt]s:\d+:\d+)\)?$/m.exec(stack)?.[1]
}
