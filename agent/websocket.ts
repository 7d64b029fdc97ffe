/** WebSockets to the broker: the control socket's text messages and joined pairs as transports. The one file that names `ws`. */
import { WebSocket } from 'ws'
import { JOIN_PATH, JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../protocol/control/sockets.ts'
import { release } from '../protocol/core/bytes.ts'
import { isErrorCode, MortarError } from '../protocol/core/errors.ts'
import { LIMITS } from '../protocol/core/limits.ts'
import { PacketQueue, type Transport } from '../protocol/core/transport.ts'

/** bytes received and not yet taken at which reading stops, and bytes to send at which senders wait */
const QUEUE_BYTES = 262_144

const OPTIONS = {
  perMessageDeflate: false,
  handshakeTimeout: LIMITS.authenticationMs,
  followRedirects: false,
  // The mask guards intermediaries against text that an attacker chose; all we send is ciphertext. A zero key costs no XOR.
  generateMask: (mask: Buffer) => void mask.fill(0),
} as const

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
  const socket = new WebSocket(url, { ...OPTIONS, maxPayload: LIMITS.controlBytes })
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
  socket.on('close', (code, reason) => end(closeError(code, reason)))
  return {
    send(json) {
      if (socket.bufferedAmount < QUEUE_BYTES) socket.send(json)
      else end(new MortarError('connection-lost', 'the broker does not take what it is sent'))
    },
    terminate: () => end(new MortarError('connection-lost', 'ended here')),
  }
}

/** Opens the agent's end of a joined pair. Fails with connection-lost, or with the code that the broker closed with. */
export function openJoined(controlUrl: string, token: string): Promise<Transport> {
  const socket = new WebSocket(new URL(JOIN_PATH, controlUrl), [JOIN_PROTOCOL, JOIN_TOKEN_PREFIX + token], {
    ...OPTIONS,
    maxPayload: LIMITS.packetBytes,
  })
  return new Promise((resolve, reject) => {
    const transport = new SocketTransport(socket, reject)
    socket.on('open', () => resolve(transport))
  })
}

class SocketTransport implements Transport {
  readonly #socket: WebSocket
  readonly #queue = new PacketQueue()
  #queuedBytes = 0
  #drains: (() => void)[] = []
  #closed = false

  constructor(socket: WebSocket, onFailed: (error: MortarError) => void) {
    this.#socket = socket
    const end = (error?: MortarError) => {
      this.#closed = true
      this.#queue.end(error)
      this.#wakeDrains()
      onFailed(error ?? new MortarError('connection-lost'))
    }
    socket.on('message', (data, isBinary) => {
      if (isBinary) return this.#push(data as Buffer)
      end(new MortarError('protocol-violation', 'text on a joined pair'))
      socket.terminate()
    })
    socket.on('error', cause => end(new MortarError('connection-lost', cause.message, { cause })))
    socket.on('close', (code, reason) => end(code === 1000 ? undefined : closeError(code, reason)))
  }

  send(packet: Uint8Array): void {
    if (this.#closed || this.#socket.readyState !== WebSocket.OPEN) throw new MortarError('connection-lost')
    this.#socket.send(packet, () => {
      release(packet)
      if (this.#socket.bufferedAmount < QUEUE_BYTES) this.#wakeDrains()
    })
  }

  async receive(): Promise<Uint8Array | null> {
    const packet = await this.#queue.take()
    if (packet) {
      this.#queuedBytes -= packet.length
      if (this.#queuedBytes < QUEUE_BYTES && this.#socket.isPaused) this.#socket.resume()
    }
    return packet
  }

  async drained(): Promise<void> {
    if (this.#closed || this.#socket.bufferedAmount < QUEUE_BYTES) return
    await new Promise<void>(resolve => this.#drains.push(resolve))
  }

  close(): void {
    if (this.#closed) return
    this.#closed = true
    this.#queue.end()
    this.#wakeDrains()
    // a paused socket would never hear the other end's close
    this.#socket.resume()
    this.#socket.close(1000)
  }

  #push(packet: Buffer): void {
    if (this.#closed) return
    this.#queuedBytes += packet.length
    this.#queue.push(packet)
    if (this.#queuedBytes >= QUEUE_BYTES) this.#socket.pause()
  }

  #wakeDrains(): void {
    for (const wake of this.#drains.splice(0)) wake()
  }
}

function closeError(code: number, reason: Buffer): MortarError {
  const text = reason.toString()
  return isErrorCode(text) ? new MortarError(text) : new MortarError('connection-lost', `closed with ${code}`)
}
