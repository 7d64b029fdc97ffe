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
export function maskedFrame(payload: Buffer, { mask, ...options }: FrameOptions): Buffer {
  const key = Buffer.alloc(4)
  key.writeUInt32BE(mask)
  return frameOf(payload, {
    ...options,
    mask: true,
    maskBuffer: key,
    generateMask: (target: Buffer) => key.copy(target),
  })
}

/** A frame as a server sends it. */
export function serverFrame(payload: Buffer, options: Omit<FrameOptions, 'mask'>): Buffer {
  return frameOf(payload, { ...options, mask: false })
}

function frameOf(payload: Buffer, options: object): Buffer {
  return Buffer.concat(peer.Sender.frame(payload, { rsv1: false, readOnly: false, ...options }))
}

/** The binary messages in bytes as a server sends them. Rejects what ws rejects. */
export function receiveAll(bytes: Buffer): Promise<Buffer[]> {
  return messagesIn(bytes, false)
}

/** The binary messages in bytes as a client sends them. Rejects what ws rejects. */
export function clientMessages(bytes: Buffer): Promise<Buffer[]> {
  return messagesIn(bytes, true)
}

function messagesIn(bytes: Buffer, isServer: boolean): Promise<Buffer[]> {
  const receiver = new peer.Receiver({
    isServer,
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
