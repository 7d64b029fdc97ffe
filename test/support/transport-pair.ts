/** Two ends of a transport in memory, for client and agent in one process. */
import { MortarError } from '../../protocol/core/errors.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'

/** Two transports in memory, each the other's end. */
export function transportPair(): [Transport, Transport] {
  const queues = [new PacketQueue(), new PacketQueue()] as const
  const close = () => {
    for (const queue of queues) queue.end()
  }
  let closed = false
  const end = (mine: PacketQueue, theirs: PacketQueue): Transport => ({
    send(packet) {
      if (closed) throw new MortarError('connection-lost')
      theirs.push(packet.slice())
    },
    receive: () => mine.take(),
    drained: () => Promise.resolve(),
    close() {
      closed = true
      close()
    },
  })
  return [end(queues[0], queues[1]), end(queues[1], queues[0])]
}
