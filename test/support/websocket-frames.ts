/** Making and reading WebSocket frames by ws, as the peer that the relay is held against. */
import type { Writable } from 'node:stream'
import * as ws from 'ws'

/** what ws exports beside its types */
const peer = ws as unknown as {
  readonly Sender: { frame(data: Buffer, options: object): Buffer[] }
  readonly Receiver: new (options: object) => Writable
}

interface FrameOptions {
  readonly opcode: number
  readonly fin: boolean
  readonly mask: number
}

/** A frame as a client sends it. */
export function maskedFrame(payload: Buffer, { opcode, fin, mask }: FrameOptions): Buffer {
  const key = Buffer.alloc(4)
  key.writeUInt32BE(mask)
  const frame = peer.Sender.frame(payload, {
    opcode,
    fin,
    rsv1: false,
    mask: true,
    readOnly: false,
    maskBuffer: key,
    generateMask: (target: Buffer) => key.copy(target),
  })
  return Buffer.concat(frame)
}

/** The binary messages in bytes as a server sends them. Rejects what ws rejects. */
export function receiveAll(bytes: Buffer): Promise<Buffer[]> {
  const receiver = new peer.Receiver({
    isServer: false,
    binaryType: 'nodebuffer',
    maxPayload: 0,
    allowSynchronousEvents: true,
  })
  return new Promise((resolve, reject) => {
    const messages: Buffer[] = []
    receiver.on('message', (data: Buffer) => messages.push(Buffer.from(data)))
    receiver.on('error', reject)
    receiver.end(bytes, () => resolve(messages))
  })
}
