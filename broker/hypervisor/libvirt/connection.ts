/**
 * One connection to libvirt's RPC over its unix socket: calls are pipelined by serial number, events come in between.
 * Packet: length (with itself), program, version, procedure, type, serial, status, each 4 bytes; then the XDR body.
 */
import { connect, type Socket } from 'node:net'
import { MortarError } from '../../../protocol/core/errors.ts'
import { answerMs, KEEPALIVE_PROGRAM, PROCEDURES, PROGRAM, type Procedure } from './procedures.ts'
import { LibvirtRefusal } from './refusals.ts'
import { XdrReader, XdrWriter } from './xdr.ts'

const HEADER_BYTES = 28
const PACKET_BYTES = 32 * 2 ** 20
const TYPE = { call: 0, reply: 1, message: 2 } as const
const POLKIT = 2

type Pending = { resolve: (body: XdrReader) => void; reject: (cause: unknown) => void; timer: NodeJS.Timeout }

export interface ConnectionListener {
  onMessage(procedure: number, body: XdrReader): void
  onClosed(): void
}

export class LibvirtConnection {
  readonly #socket: Socket
  readonly #listener: ConnectionListener
  readonly #pending = new Map<number, Pending>()
  #received: Buffer = Buffer.alloc(0)
  #serial = 0
  #closed = false

  private constructor(socket: Socket, listener: ConnectionListener) {
    this.#socket = socket
    this.#listener = listener
    socket.on('data', chunk => this.#receive(chunk))
    socket.on('close', () => this.#end())
    socket.on('error', () => socket.destroy())
  }

  /** Connects, authenticates and opens `uri`. Fails with libvirt-down. */
  static async open(socketPath: string, uri: string, listener: ConnectionListener): Promise<LibvirtConnection> {
    const socket = await new Promise<Socket>((resolve, reject) => {
      const opening = connect(socketPath, () => resolve(opening))
      opening.once('error', cause =>
        reject(new MortarError('libvirt-down', `${socketPath}: ${cause.message}`, { cause })),
      )
    })
    const connection = new LibvirtConnection(socket, listener)
    try {
      const methods = await connection.call('authList')
      const [count, first] = [methods.int(), methods.int()]
      if (count > 0 && first === POLKIT) await connection.call('authPolkit')
      await connection.call('connectOpen', new XdrWriter().optionalText(uri).int(0))
    } catch (cause) {
      connection.close()
      throw cause
    }
    return connection
  }

  /** One call. Fails with libvirt-failed (a LibvirtRefusal), libvirt-down when the connection ends, timeout. */
  call(procedure: Procedure, body = new XdrWriter(), timeoutMs = answerMs(procedure)): Promise<XdrReader> {
    if (this.#closed) return Promise.reject(new MortarError('libvirt-down'))
    const serial = ++this.#serial
    this.#send(PROGRAM, PROCEDURES[procedure], TYPE.call, serial, body.bytes())
    return new Promise((resolve, reject) => {
      const timer = setTimeout(() => {
        this.#pending.delete(serial)
        reject(new MortarError('timeout', `libvirt did not answer ${procedure}`))
      }, timeoutMs)
      this.#pending.set(serial, { resolve, reject, timer })
    })
  }

  close(): void {
    this.#socket.destroy()
    this.#end()
  }

  #send(program: number, procedure: number, type: number, serial: number, body: Buffer): void {
    const header = Buffer.alloc(HEADER_BYTES)
    for (const [index, word] of [HEADER_BYTES + body.length, program, 1, procedure, type, serial, 0].entries()) {
      header.writeUInt32BE(word, 4 * index)
    }
    this.#socket.write(Buffer.concat([header, body]))
  }

  #receive(chunk: Buffer): void {
    this.#received = this.#received.length === 0 ? chunk : Buffer.concat([this.#received, chunk])
    while (this.#received.length >= 4) {
      const length = this.#received.readUInt32BE(0)
      if (length < HEADER_BYTES || length > PACKET_BYTES) {
        this.#socket.destroy()
        return
      }
      if (this.#received.length < length) return
      const packet = this.#received.subarray(0, length)
      this.#received = this.#received.subarray(length)
      this.#dispatch(packet)
    }
  }

  #dispatch(packet: Buffer): void {
    const [program, procedure, type] = [packet.readUInt32BE(4), packet.readUInt32BE(12), packet.readUInt32BE(16)]
    const [serial, status] = [packet.readUInt32BE(20), packet.readUInt32BE(24)]
    const body = new XdrReader(packet.subarray(HEADER_BYTES))
    if (program === KEEPALIVE_PROGRAM) {
      // ping is procedure 1, pong 2
      if (procedure === 1) this.#send(KEEPALIVE_PROGRAM, 2, TYPE.message, 0, Buffer.alloc(0))
    } else if (type === TYPE.message) this.#listener.onMessage(procedure, body)
    else if (type === TYPE.reply) this.#settle(serial, status, body)
  }

  #settle(serial: number, status: number, body: XdrReader): void {
    const pending = this.#pending.get(serial)
    if (!pending) return
    this.#pending.delete(serial)
    clearTimeout(pending.timer)
    if (status === 0) pending.resolve(body)
    else {
      const [number, , message] = [body.int(), body.int(), body.optionalText()]
      pending.reject(new LibvirtRefusal(number, message ?? 'no reason given'))
    }
  }

  #end(): void {
    if (this.#closed) return
    this.#closed = true
    for (const { reject, timer } of this.#pending.values()) {
      clearTimeout(timer)
      reject(new MortarError('libvirt-down', 'the connection was closed'))
    }
    this.#pending.clear()
    this.#listener.onClosed()
  }
}
