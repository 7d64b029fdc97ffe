/** ws as the Transport of one end of a joined pair: unlike the platform's WebSocket it can hold up the other end. SPEC §4 */
import { WebSocket } from 'ws'
import { JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/api.ts'
import { release as releaseBytes } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'
import { closeFailure, HIGH_WATER_BYTES } from '../websocket.ts'

const CONNECT_MS = 15_000
/** packets received and not yet taken before the socket is no longer read */
const MOST_UNTAKEN_PACKETS = 64

/** Opens a joined socket by its token. Fails with broker-unreachable or timeout. */
export function openSocket(url: string, token: string): Promise<Transport> {
  const socket = new WebSocket(url, [JOIN_PROTOCOL, JOIN_TOKEN_PREFIX + token], {
    perMessageDeflate: false,
    maxPayload: LIMITS.packetBytes,
    handshakeTimeout: CONNECT_MS,
    // masking protects proxies from what a page sends; these bytes are ciphertext, and a zero mask need not be applied
    generateMask: mask => void mask.fill(0),
  })
  const transport = transportOf(socket)
  return new Promise((resolve, reject) => {
    socket.once('open', () => resolve(transport))
    socket.once('error', cause => {
      const why = 'code' in cause ? String(cause.code) : cause.message
      reject(new MortarError('broker-unreachable', `${url} (${why})`, { cause }))
    })
  })
}

function transportOf(socket: WebSocket): Transport {
  const queue = new PacketQueue()
  let waiting: (() => void)[] = []
  let closed = false
  let failure: MortarError | null = null

  const release = () => {
    for (const resolve of waiting) resolve()
    waiting = []
  }
  const end = (reason: MortarError | null) => {
    if (closed) return
    closed = true
    failure = reason
    queue.end(reason ?? undefined)
    release()
  }
  const onSent = () => {
    if (socket.bufferedAmount <= HIGH_WATER_BYTES) release()
  }
  socket.on('message', (data, isBinary) => {
    if (!isBinary) {
      end(new MortarError('protocol-violation', 'a text message'))
      return socket.close()
    }
    const packet = data as Buffer
    queue.push(new Uint8Array(packet.buffer, packet.byteOffset, packet.byteLength))
    if (queue.length >= MOST_UNTAKEN_PACKETS) socket.pause()
  })
  socket.on('close', (code, reason) => end(closeFailure(code, reason.toString('utf8'))))
  socket.on('error', cause => end(new MortarError('connection-lost', cause.message, { cause })))

  return {
    send(packet) {
      if (closed) throw failure ?? new MortarError('connection-lost')
      socket.send(packet, { binary: true }, () => {
        releaseBytes(packet)
        onSent()
      })
    },
    receive() {
      const packet = queue.take()
      if (socket.isPaused && queue.length < MOST_UNTAKEN_PACKETS / 2) socket.resume()
      return packet
    },
    drained() {
      if (closed || socket.bufferedAmount <= HIGH_WATER_BYTES) return Promise.resolve()
      return new Promise(resolve => waiting.push(resolve))
    },
    close() {
      end(null)
      // a paused socket would never see the other end's close
      socket.resume()
      socket.close(1000)
    },
  }
}
