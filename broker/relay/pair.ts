/**
 * A joined pair: what one end sends goes to the other, frame by frame, never faster than the other reads. Once joined, the
 * relay looks at frame headers only and has no means to read what they carry. SPEC §4
 */
import type { Duplex } from 'node:stream'
import { asMortarError } from '../../protocol/core/errors.ts'
import { closePayload, controlFrame, FrameReader, OPCODE } from './frames.ts'

/** WebSocket close codes: normal, protocol error, and ours, whose reason is a code of the error table */
const CLOSE = { normal: 1000, protocolError: 1002, mortar: 4000 } as const
/** ms that the other end has to answer a close */
const CLOSING_MS = 2_000

/** Sends a close with an error code as its reason and ends the socket. */
export function closeWith(socket: Duplex, code: string): void {
  end(socket, controlFrame(OPCODE.close, closePayload(CLOSE.mortar, code)))
}

/** Joins two upgraded sockets, paused until now. `onEnd` is called once, with the bytes carried each way. */
export function joinPair(
  client: Duplex,
  agent: Duplex,
  onEnd: (bytes: { toAgent: number; toClient: number }) => void,
): void {
  const bytes = { toAgent: 0, toClient: 0 }
  let ended = false
  const finish = () => {
    if (ended) return
    ended = true
    onEnd(bytes)
  }
  pump(
    client,
    agent,
    count => {
      bytes.toAgent += count
    },
    finish,
  )
  pump(
    agent,
    client,
    count => {
      bytes.toClient += count
    },
    finish,
  )
}

function pump(from: Duplex, to: Duplex, count: (bytes: number) => void, finish: () => void): void {
  let closed = false
  const reader = new FrameReader({
    forward(bytes) {
      if (to.writableEnded) return
      count(bytes.length)
      if (!to.write(bytes)) from.pause()
    },
    control(opcode, payload) {
      // a peer's pings end here: keeping the pair alive is the affair of its ends
      if (opcode === OPCODE.ping) from.write(controlFrame(OPCODE.pong, payload))
      else if (opcode === OPCODE.close && !closed) {
        closed = true
        end(to, controlFrame(OPCODE.close, payload))
        end(from, controlFrame(OPCODE.close, payload.subarray(0, 2)))
        finish()
      }
    },
  })
  from.on('data', (chunk: Buffer) => {
    if (closed) return
    to.cork()
    try {
      reader.push(chunk)
    } catch (thrown) {
      closed = true
      const frame = controlFrame(OPCODE.close, closePayload(CLOSE.protocolError, asMortarError(thrown).code))
      end(from, frame)
      end(to, frame)
      finish()
    } finally {
      to.uncork()
    }
  })
  to.on('drain', () => from.resume())
  from.on('error', () => undefined)
  from.on('close', () => {
    // it went without a close frame: the other must not take that for an orderly end
    if (!closed && !to.destroyed) to.destroy()
    finish()
  })
  from.resume()
}

function end(socket: Duplex, last: Buffer): void {
  if (socket.destroyed || socket.writableEnded) return
  socket.end(last)
  socket.resume()
  const timer = setTimeout(() => socket.destroy(), CLOSING_MS)
  timer.unref()
  socket.once('close', () => clearTimeout(timer))
}
