/**
 * A joined pair: what one end sends goes to the other, frame by frame, never faster than the other reads. Once joined, the
 * relay looks at frame headers only and has no means to read what they carry. SPEC §4
 */
import type { Duplex } from 'node:stream'
import { release } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { asMortarError, type ErrorCode } from '../../protocol/core/errors.ts'
import { OPCODE } from '../../protocol/core/websocket-frames.ts'
import { closePayload, controlFrame, FrameReader } from './frames.ts'

/** WebSocket close codes: protocol error, and ours, whose reason is a code of the error table */
const CLOSE = { protocolError: 1002, mortar: 4000 } as const
/** ms that a peer has to take what was sent before a close, and then to answer it */
const FLUSH_MS = 60_000
const CLOSING_MS = 5_000
/** ms after which an end that takes nothing is given up; a session's own silence limit is a tenth of it */
const STALLED_MS = 600_000

type OnEnd = (bytes: { toAgent: number; toClient: number }) => void

/** Sends a close with an error code as its reason and ends the socket. */
export function closeWith(socket: Duplex, code: ErrorCode, clock: Clock): void {
  finish(socket, controlFrame(OPCODE.close, closePayload(CLOSE.mortar, code)), clock)
}

/**
 * Joins two upgraded sockets, paused until now. `onEnd` is called once, with the bytes carried each way. The returned
 * function ends the pair from here.
 */
export function joinPair(client: Duplex, agent: Duplex, clock: Clock, onEnd: OnEnd): (code: ErrorCode) => void {
  let ended = false
  const end = (payloads: Payloads | undefined) => {
    if (ended) return
    ended = true
    toAgent.end(payloads?.agent)
    toClient.end(payloads?.client)
    onEnd({ toAgent: toAgent.bytes, toClient: toClient.bytes })
  }
  const toAgent: Direction = new Direction(client, agent, clock, {
    end,
    closed: payload => end({ agent: payload, client: payload.subarray(0, 2) }),
    ping: payload => toClient.answerPing(payload),
  })
  const toClient: Direction = new Direction(agent, client, clock, {
    end,
    closed: payload => end({ client: payload, agent: payload.subarray(0, 2) }),
    ping: payload => toAgent.answerPing(payload),
  })
  for (const direction of [toAgent, toClient]) direction.start()
  return code => end(both(closePayload(CLOSE.mortar, code)))
}

/** of the close frames that the ends are sent */
type Payloads = Readonly<Record<'client' | 'agent', Buffer>>

interface Events {
  /** the pair ends; without payloads both are cut off */
  end(payloads: Payloads | undefined): void
  /** `from` sent a close, or a ping */
  closed(payload: Buffer): void
  ping(payload: Buffer): void
}

/** One direction: reads `from`, writes `to`. */
class Direction {
  readonly #from: Duplex
  readonly #to: Duplex
  readonly #clock: Clock
  readonly #events: Events
  readonly #reader: FrameReader
  /** the latest ping of `to` that waits for its answer: there is room for one (RFC 6455 section 5.5.3) */
  #ping: Buffer | undefined
  #cancelStall: (() => void) | undefined
  #stopped = false
  /** counts a write of a part of the chunk at hand; what it returns is called when that was written */
  #onForward: () => () => void = () => () => undefined
  bytes = 0

  constructor(from: Duplex, to: Duplex, clock: Clock, events: Events) {
    this.#from = from
    this.#to = to
    this.#clock = clock
    this.#events = events
    this.#reader = new FrameReader({
      forward: bytes => this.#forward(bytes),
      control: (opcode, payload) => {
        // pings end here: keeping the pair alive is the affair of its ends
        if (opcode === OPCODE.ping) events.ping(payload)
        else if (opcode === OPCODE.close) events.closed(payload)
      },
      between: flush => this.#writePong(flush),
    })
  }

  start(): void {
    const [from, to] = [this.#from, this.#to]
    from.on('data', (chunk: Buffer) => this.#read(chunk))
    to.on('drain', () => {
      this.#cancelStall?.()
      this.#cancelStall = undefined
      from.resume()
      if (!this.#reader.insideFrame) this.#writePong()
    })
    // it went without a close frame: the other must not take that for an orderly end
    for (const event of ['end', 'close']) from.on(event, () => this.#events.end(undefined))
    from.resume()
  }

  /** Closes `to` with this payload, or cuts it off. No frame can follow half a frame: then it ends without one. */
  end(payload: Buffer | undefined): void {
    this.#stopped = true
    this.#cancelStall?.()
    const last = this.#reader.insideFrame ? undefined : controlFrame(OPCODE.close, payload)
    if (payload) finish(this.#to, last, this.#clock)
    else this.#to.destroy()
  }

  answerPing(payload: Buffer): void {
    this.#ping = payload
    if (!this.#reader.insideFrame) this.#writePong()
  }

  #read(chunk: Buffer): void {
    if (this.#stopped) return
    let writes = 1
    const written = () => {
      if (--writes === 0) release(chunk)
    }
    this.#onForward = () => {
      writes++
      return written
    }
    this.#to.cork()
    try {
      this.#reader.push(chunk)
    } catch (thrown) {
      this.#events.end(both(closePayload(CLOSE.protocolError, asMortarError(thrown).code)))
    } finally {
      this.#to.uncork()
      written()
    }
  }

  #forward(bytes: Buffer): void {
    if (this.#stopped) return
    this.bytes += bytes.length
    if (this.#to.write(bytes, this.#onForward())) return
    this.#from.pause()
    this.#cancelStall ??= this.#clock.after(STALLED_MS, () => this.#events.end(undefined))
  }

  /** Answers between two frames. A peer that pings and does not read gets no answers, so that none pile up. */
  #writePong(flush?: () => void): void {
    if (!this.#ping || this.#stopped || this.#to.writableNeedDrain) return
    flush?.()
    this.#to.write(controlFrame(OPCODE.pong, this.#ping))
    this.#ping = undefined
  }
}

function both(payload: Buffer): Payloads {
  return { client: payload, agent: payload }
}

/** Sends the last frame if any, reads on without looking until the peer closes, and does not wait for that for ever. */
function finish(socket: Duplex, last: Buffer | undefined, clock: Clock): void {
  if (socket.destroyed || socket.writableEnded) return
  const destroy = () => socket.destroy()
  let cancel = clock.after(FLUSH_MS, destroy)
  socket.once('finish', () => {
    cancel()
    cancel = clock.after(CLOSING_MS, destroy)
  })
  socket.once('end', destroy)
  socket.once('close', () => cancel())
  if (last) socket.write(last)
  socket.end()
  socket.resume()
}
