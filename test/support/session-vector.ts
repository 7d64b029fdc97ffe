/**
 * One end of a session against the packets of the other end as a second implementation wrote them: what this end sends must
 * be, byte for byte, what the second implementation would send in its place. SPEC §5, §7, §8
 */
import { decodeHex, encodeHex } from '../../protocol/core/bytes.ts'
import { PacketQueue, type Transport } from '../../protocol/core/transport.ts'
import type { ChannelVector } from './channel-vector.ts'

/** Bytes are hex. */
export interface SessionVector extends Omit<ChannelVector, 'expected' | 'records'> {
  readonly transcriptHash: string
  /** further key pairs that each end makes */
  readonly oneTime?: { readonly client: string; readonly agent: string }
  readonly packets: readonly { readonly from: 'client' | 'agent'; readonly what: string; readonly packet: string }[]
}

export interface Replay {
  readonly transport: Transport
  /** what was sent otherwise than the vector has it; null when nothing was */
  readonly differs: string | null
  /** what of the vector has neither been sent nor given yet */
  readonly left: readonly string[]
}

/** Plays the end that is not `mine`: gives its packets as soon as those before them have been sent. */
export function replay({ packets }: Pick<SessionVector, 'packets'>, mine: 'client' | 'agent'): Replay {
  const queue = new PacketQueue()
  let next = 0
  let differs: string | null = null
  const give = () => {
    for (let packet = packets[next]; packet && packet.from !== mine; packet = packets[++next]) {
      queue.push(decodeHex(packet.packet))
    }
    if (next === packets.length) queue.end()
  }
  give()
  return {
    transport: {
      send(packet) {
        const expected = packets[next++]
        const same = expected?.from === mine && expected.packet === encodeHex(packet)
        if (same) return give()
        differs ??= `${expected?.what ?? 'nothing'} expected, got ${packet.length} bytes`
        queue.end(new Error(differs))
      },
      receive: () => queue.take(),
      drained: () => Promise.resolve(),
      close: () => queue.end(),
    },
    get differs() {
      return differs
    },
    get left() {
      return packets.slice(next).map(({ what }) => what)
    },
  }
}
