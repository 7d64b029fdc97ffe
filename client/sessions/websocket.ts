/** The platform's WebSocket, in browsers and in Node, as the Transport of one end of a joined pair. SPEC §4 */
import { closeFailure, JOIN_PROTOCOL, JOIN_TOKEN_PREFIX } from '../../protocol/control/sockets.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'

/** bytes that may wait in the socket before a sender should hold on */
const HIGH_WATER_BYTES = 1_048_576
/** a browser tells nothing when its buffer empties, so it is looked at again after this */
const DRAIN_LOOK_MS = 4
const CONNECT_MS = 15_000

/** Opens a joined socket by its token. Fails with broker-unreachable or timeout. */
export function openWebSocket(url: string, token: string): Promise<Transport> {
  const socket = new WebSocket(url, [JOIN_PROTOCOL, JOIN_TOKEN_PREFIX + token])
  socket.binaryType = 'arraybuffer'
  const queue = new PacketQueue()
  let opened = false
  let closed = false
  let failure: MortarError | null = null

  const end = (reason: MortarError | null) => {
    if (closed) return
    closed = true
    failure = reason
    queue.end(reason ?? undefined)
  }
  const fail = (reason: MortarError) => {
    end(reason)
    socket.close()
  }
  socket.onmessage = event => {
    if (!(event.data instanceof ArrayBuffer)) return fail(new MortarError('protocol-violation', 'a text message'))
    if (event.data.byteLength > LIMITS.packetBytes) return fail(new MortarError('limit-exceeded', 'packet'))
    queue.push(new Uint8Array(event.data))
  }

  const transport: Transport = {
    send(packet) {
      if (closed) throw failure ?? new MortarError('connection-lost')
      socket.send(packet as Uint8Array<ArrayBuffer>)
    },
    receive: () => queue.take(),
    async drained() {
      while (!closed && socket.bufferedAmount > HIGH_WATER_BYTES) {
        await new Promise(resolve => setTimeout(resolve, DRAIN_LOOK_MS))
      }
    },
    close() {
      end(null)
      socket.close(1000)
    },
  }
  return new Promise((resolve, reject) => {
    const late = setTimeout(() => {
      fail(new MortarError('timeout', `no answer from ${url}`))
      reject(failure)
    }, CONNECT_MS)
    socket.onopen = () => {
      clearTimeout(late)
      opened = true
      if (socket.protocol === JOIN_PROTOCOL) return resolve(transport)
      fail(new MortarError('protocol-violation', `${url} is not a broker of this version`))
      reject(failure)
    }
    socket.onclose = event => {
      clearTimeout(late)
      end(opened ? closeFailure(event.code, event.reason) : new MortarError('broker-unreachable', url))
      // of no effect once it was open
      reject(failure)
    }
  })
}
