/** The log: one JSON line per event on stderr. Events have fixed names; fields are ids, states and codes, never content or keys. */
import pino from 'pino'

/** Every event there is. */
export type LogEvent =
  | 'broker.started'
  | 'broker.stopping'
  | 'request.failed'
  | 'hypervisor.unreachable'
  | 'lifecycle.failed'
  | 'network.mended'
  | 'network.failed'
  | 'network.other'
  | 'network.unbound'
  | 'brick.imported'
  | 'brick.deleted'
  | 'vm.state'
  | 'vm.transition-refused'
  | 'vm.event-lost'
  | 'vm.compare-failed'
  | 'vm.destroy-failed'
  | 'vm.stray-removed'
  | 'agent.enrolled'
  | 'agent.refused'
  | 'pair.joined'
  | 'pair.ended'
  | 'drive.created'
  | 'drive.deleted'
  | 'drive.attached'
  | 'drive.detached'
  | 'ssh.refused'

type Fields = Readonly<Record<string, string | number | boolean | null | undefined>>

export interface Log {
  info(event: LogEvent, fields?: Fields): void
  warn(event: LogEvent, fields?: Fields): void
  error(event: LogEvent, fields?: Fields): void
}

export function createLog(): Log {
  const logger = pino({ base: null, timestamp: pino.stdTimeFunctions.isoTime }, pino.destination({ fd: 2, sync: true }))
  return {
    info: (event, fields = {}) => logger.info({ event, ...fields }),
    warn: (event, fields = {}) => logger.warn({ event, ...fields }),
    error: (event, fields = {}) => logger.error({ event, ...fields }),
  }
}
