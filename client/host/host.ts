/** What the library needs of the place it runs in: cryptography, time, sockets. The browser's is here, Node's in node/host.ts. */
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Suite } from '../../protocol/channel/suite.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { openWebSocket } from '../sessions/websocket.ts'
import { wallClock } from './clock.ts'

/** Opens this end of a joined pair. `url`: ws:// or wss:// with path. Fails with broker-unreachable, connection-lost. SPEC §4 */
export type OpenSocket = (url: string, token: string) => Promise<Transport>

export interface Host {
  readonly suite: Suite
  readonly clock: Clock
  readonly openSocket: OpenSocket
}

export const browserHost: Host = { suite: nobleSuite, clock: wallClock, openSocket: openWebSocket }

/** A new random UUID, version 4; unlike crypto.randomUUID also where a page has no secure context. */
export function newUuid(suite: Suite): string {
  const bytes = suite.randomBytes(16)
  bytes[6] = ((bytes[6] as number) & 0x0f) | 0x40
  bytes[8] = ((bytes[8] as number) & 0x3f) | 0x80
  const hex = [...bytes].map(byte => byte.toString(16).padStart(2, '0')).join('')
  return [hex.slice(0, 8), hex.slice(8, 12), hex.slice(12, 16), hex.slice(16, 20), hex.slice(20)].join('-')
}
