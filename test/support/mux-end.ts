/** One end's multiplexer over memory, without a channel; what it says piles up at `peer`, where the test is the other end. */
import type { Clock } from '../../protocol/core/clock.ts'
import type { Frame } from '../../protocol/mux/frame.ts'
import { Mux } from '../../protocol/mux/mux.ts'
import type { Stream } from '../../protocol/mux/stream.ts'
import { frame, record } from './frames.ts'
import { wallClock } from './session-pair.ts'
import { transportPair } from './transport-pair.ts'

export function muxEnd(end: 'client' | 'agent', clock: Clock = wallClock, ready = true) {
  const [peer, transport] = transportPair()
  const streams: Stream[] = []
  const mux = new Mux({
    transport: { ...transport, rekeySending() {}, rekeyReceiving() {} },
    clock,
    ...(end === 'agent' ? { onOpen: (stream: Stream) => void streams.push(stream) } : { onReady() {} }),
  })
  const ended = mux.run().then(
    () => 'in order',
    (error: { code: string }) => error.code,
  )
  const say = (...frames: readonly Frame[]) => peer.send(record(...frames))
  if (end === 'client' && ready) say(frame('ready', 0, Uint8Array.of(0xa0)))
  return { mux, peer, streams, ended, say }
}

/** What a promise came to, or `open` if it still waits after a moment. */
export function now(ended: Promise<string>): Promise<string> {
  return Promise.race([ended, new Promise<string>(resolve => setTimeout(() => resolve('open'), 20))])
}
