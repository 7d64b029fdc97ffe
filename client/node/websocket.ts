/** A joined socket of the command line: unlike the platform's WebSocket it can hold up the other end. SPEC §4 */
import type { Transport } from '../../protocol/core/transport.ts'
import { openJoinedSocket } from '../../protocol/native/joined-socket.ts'

const CONNECT_MS = 15_000

/** Opens a joined socket by its token. Fails with broker-unreachable, timeout or protocol-violation. */
export function openSocket(url: string, token: string): Promise<Transport> {
  return openJoinedSocket(new URL(url), token, CONNECT_MS)
}
