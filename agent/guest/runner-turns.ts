/** Frames from a runner, so many in one turn of the event loop: whoever talks without end leaves the others their turns. */
import type { Socket } from 'node:net'
import { type Frame, FrameReader } from '../runner/frames.ts'

const FRAMES_PER_TURN = 256

/**
 * Calls back for each frame that comes from the socket, in order, and no more once one was refused: when `take` throws, or
 * when what came is no frame, `fail` is called with what was thrown.
 */
export function takeFrames(socket: Socket, take: (frame: Frame) => void, fail: (thrown: unknown) => void): void {
  const reader = new FrameReader()
  let waiting: Frame[] = []
  let taken = 0
  let isTurn = false
  const work = () => {
    try {
      const due = waiting.splice(0, FRAMES_PER_TURN - taken)
      taken += due.length
      for (const frame of due) {
        if (socket.destroyed) return
        take(frame)
      }
    } catch (thrown) {
      waiting = []
      return fail(thrown)
    }
    if (waiting.length > 0) socket.pause()
    else if (socket.isPaused()) socket.resume()
    if (!isTurn) setImmediate(nextTurn)
    isTurn = true
  }
  const nextTurn = () => {
    isTurn = false
    taken = 0
    if (waiting.length > 0) work()
  }
  socket.on('data', chunk => {
    try {
      waiting.push(...reader.push(chunk))
    } catch (thrown) {
      return fail(thrown)
    }
    work()
  })
}
