/** WebSockets to the broker: the control socket, by ws, and ends of joined pairs. The one file that names `ws`. */
import { WebSocket } from 'ws'
import { closeFailure, JOIN_PATH } from '../../protocol/control/sockets.ts'
import { asMortarError, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { Transport } from '../../protocol/core/transport.ts'
import { openJoinedSocket } from '../../protocol/native/joined-socket.ts'

/** bytes to send at which the broker is given up */
const MOST_QUEUED_BYTES = 262_144

/** The control socket: text messages in, text messages out. */
export interface ControlSocket {
  send(json: string): void
  /** ends the socket at once */
  terminate(): void
}

export interface ControlEvents {
  onMessage(json: string): void
  /** anything at all was heard, pings too */
  onAlive(): void
  onClosed(error: MortarError): void
}

/** Dials the control socket. onClosed comes exactly once, also when the dial fails. */
export function dialControl(url: string, events: ControlEvents): ControlSocket {
  const socket = new WebSocket(url, {
    perMessageDeflate: false,
    handshakeTimeout: LIMITS.authenticationMs,
    followRedirects: false,
    maxPayload: LIMITS.controlBytes,
  })
  let closed = false
  const end = (error: MortarError) => {
    if (closed) return
    closed = true
    socket.terminate()
    events.onClosed(error)
  }
  socket.on('message', (data, isBinary) => {
    if (isBinary) return end(new MortarError('protocol-violation', 'binary message on the control socket'))
    events.onAlive()
    events.onMessage(data.toString())
  })
  socket.on('ping', () => events.onAlive())
  socket.on('error', cause => end(new MortarError('connection-lost', cause.message, { cause })))
  socket.on('close', (code, reason) => {
    end(closeFailure(code, reason.toString()) ?? new MortarError('connection-lost', 'the broker closed the connection'))
  })
  return {
    send(json) {
      if (socket.bufferedAmount < MOST_QUEUED_BYTES) socket.send(json)
      else end(new MortarError('connection-lost', 'the broker does not take what it is sent'))
    },
    terminate: () => end(new MortarError('connection-lost', 'ended here')),
  }
}

/** Opens the agent's end of a joined pair; `cut` cuts it, also while it is being opened. Fails with connection-lost. */
export async function openJoined(controlUrl: string, token: string, cut?: AbortSignal): Promise<Transport> {
  try {
    return await openJoinedSocket(new URL(JOIN_PATH, controlUrl), token, LIMITS.authenticationMs, cut)
  } catch (thrown) {
    const { detail, cause } = asMortarError(thrown)
    throw new MortarError('connection-lost', detail, { cause })
  }
}
