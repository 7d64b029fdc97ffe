/** A joined pair's end on Node as a Transport: packets as WebSocket messages on the raw socket, held up both ways. SPEC §4 */
import type { Socket } from 'node:net'
import { closeFailure } from '../control/sockets.ts'
import { release } from '../core/bytes.ts'
import { asMortarError, MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { PacketQueue, type Transport } from '../core/transport.ts'
import { OPCODE } from '../core/websocket-frames.ts'
import { closeFrame, controlFrame, FrameParser, frameHeader } from './joined-frames.ts'
import { upgrade } from './upgrade.ts'

/** bytes received and not yet taken at which reading stops, and bytes to send at which senders wait */
const QUEUE_BYTES = 262_144
/** what a packet costs apart from its bytes, so that empty ones are not free */
const PACKET_COST_BYTES = 256
/** ms from a close to the end of the connection */
const CLOSING_MS = 30_000
const NORMAL = 1000
const PROTOCOL_ERROR = 1002
const NOW = Promise.resolve()

/**
 * Opens an end by its token; `url`: ws or wss, of the join path; `cut` cuts the connection, whatever state it is in. Fails
 * with broker-unreachable, timeout, connection-lost (cut) or protocol-violation.
 */
export async function openJoinedSocket(
  url: URL,
  token: string,
  timeoutMs: number,
  cut?: AbortSignal,
): Promise<Transport> {
  const { socket, head } = await upgrade(url, token, timeoutMs, cut)
  return new JoinedSocket(socket, head, cut)
}

class JoinedSocket implements Transport {
  readonly #socket: Socket
  readonly #queue = new PacketQueue()
  readonly #parser: FrameParser
  #drains: (() => void)[] = []
  #corked = false
  /** nothing is sent any more, and nothing received is kept */
  #ended = false
  #failure: MortarError | undefined
  /** whether a pong is being written, and the latest ping that came meanwhile: there is room for one (RFC 6455 section 5.5.3) */
  #ponging = false
  #ping: Uint8Array | undefined

  constructor(socket: Socket, head: Uint8Array, cut: AbortSignal | undefined) {
    this.#socket = socket
    this.#parser = new FrameParser({
      packet: bytes => this.#take(bytes),
      ping: payload => this.#answer(payload),
      close: (code, reason) => {
        this.#end(closeFailure(code, reason) ?? undefined, code)
        socket.end()
      },
    })
    socket.setNoDelay(true)
    socket.on('error', cause => this.#lose(cause.message, cause))
    socket.on('end', () => this.#lose('ended without a close'))
    socket.on('close', () => this.#lose('ended without a close'))
    cut?.addEventListener('abort', () => this.#lose('cut here'), { once: true })
    if (cut?.aborted) this.#lose('cut here')
    if (head.length > 0) this.#read(head)
    socket.on('data', (chunk: Buffer) => {
      this.#read(chunk)
      release(chunk)
    })
  }

  send(packet: Uint8Array): void {
    if (this.#ended) throw this.#failure ?? new MortarError('connection-lost')
    if (packet.length > LIMITS.packetBytes) throw new MortarError('limit-exceeded', 'packet')
    this.#corkForThisTick()
    this.#socket.write(frameHeader(OPCODE.binary, packet.length))
    this.#socket.write(packet, () => {
      release(packet)
      if (this.#drains.length > 0 && this.#socket.writableLength < QUEUE_BYTES) this.#wakeDrains()
    })
  }

  receive(): Promise<Uint8Array | null> {
    const packet = this.#queue.take()
    if (this.#untaken() < QUEUE_BYTES / 2 && this.#socket.isPaused()) this.#socket.resume()
    return packet
  }

  drained(): Promise<void> {
    if (this.#ended || this.#socket.writableLength < QUEUE_BYTES) return NOW
    return new Promise<void>(resolve => this.#drains.push(resolve))
  }

  close(): void {
    this.#end(undefined, NORMAL)
  }

  #read(chunk: Uint8Array): void {
    try {
      this.#parser.push(chunk)
    } catch (thrown) {
      this.#end(asMortarError(thrown), PROTOCOL_ERROR)
      this.#socket.end()
    }
  }

  #take(packet: Uint8Array): void {
    if (this.#ended) return
    this.#queue.push(packet)
    if (this.#untaken() >= QUEUE_BYTES) this.#socket.pause()
  }

  #untaken(): number {
    return this.#queue.bytes + this.#queue.length * PACKET_COST_BYTES
  }

  /** A peer that pings and does not read finds one pong waiting, however often it asks. */
  #answer(ping: Uint8Array): void {
    if (this.#ended) return
    if (this.#ponging) {
      this.#ping = ping
      return
    }
    this.#ponging = true
    this.#socket.write(controlFrame(OPCODE.pong, ping), () => {
      this.#ponging = false
      const next = this.#ping
      this.#ping = undefined
      if (next) this.#answer(next)
    })
  }

  /** The packets of one tick leave in one write. */
  #corkForThisTick(): void {
    if (this.#corked) return
    this.#corked = true
    this.#socket.cork()
    process.nextTick(() => {
      this.#corked = false
      this.#socket.uncork()
    })
  }

  /** Ends both directions with a close frame; packets that have come can still be taken. Of effect once. */
  #end(failure: MortarError | undefined, code: number): void {
    if (this.#ended) return
    this.#over(failure)
    const socket = this.#socket
    socket.write(closeFrame(code))
    // now: a program may exit right after it closed
    socket.uncork()
    const late = setTimeout(() => socket.destroy(), CLOSING_MS)
    socket.once('close', () => clearTimeout(late))
    // a paused socket would never hear the other end's close
    socket.resume()
  }

  /** The connection went. */
  #lose(why: string, cause?: unknown): void {
    if (!this.#ended) this.#over(new MortarError('connection-lost', why, { cause }))
    this.#socket.destroy()
  }

  #over(failure: MortarError | undefined): void {
    this.#ended = true
    this.#failure = failure
    this.#queue.end(failure)
    this.#wakeDrains()
  }

  #wakeDrains(): void {
    for (const wake of this.#drains.splice(0)) wake()
  }
}
