/** Frames and records that a test writes by hand, sound or not. */
import { encodeText } from '../../protocol/core/bytes.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { decodeFrames, encodeFrame, type Frame, type FrameType } from '../../protocol/mux/frame.ts'

const NONE = new Uint8Array(0)

export const frame = (type: FrameType, streamId: number, body: Uint8Array = NONE, flags = 0): Frame => ({
  type,
  streamId,
  flags,
  body,
})

export const reset = (streamId: number, code: string) => frame('reset', streamId, encodeText(code))

export function record(...frames: readonly Frame[]): Uint8Array {
  const bytes = new Uint8Array(frames.reduce((sum, { body }) => sum + LIMITS.frameHeaderBytes + body.length, 0))
  frames.reduce((offset, item) => encodeFrame(bytes, offset, item), 0)
  return bytes
}

/** The frames of the next records, up to and with the first of a type; throws at the end of the transport. */
export async function framesUntil(
  from: { receive(): Promise<Uint8Array | null> },
  type: FrameType,
): Promise<readonly Frame[]> {
  const seen: Frame[] = []
  while (!seen.some(item => item.type === type)) {
    const packet = await from.receive()
    if (!packet) throw new Error(`no ${type} came, only ${seen.map(item => item.type).join(', ')}`)
    seen.push(...decodeFrames(packet))
  }
  return seen
}
