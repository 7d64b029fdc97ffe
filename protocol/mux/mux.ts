/**
 * The multiplexer: streams over one record transport.
 * Way in:  run() takes a record → decodeFrames → session frames here, stream frames to their stream.
 * Way out: sendFrame() queues → frames of one tick are filled into records → the channel seals them.
 * Streams are opened by the client only, with odd ids that only grow. SPEC §7
 */
import { encodeText } from '../core/bytes.ts'
import type { Clock } from '../core/clock.ts'
import { asMortarError, type ErrorCode, MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { wipe } from '../core/secret.ts'
import type { Transport } from '../core/transport.ts'
import { decodeFrames, encodeFrame, type Frame, type FrameType, frameBytes, MOST_DATA_BYTES } from './frame.ts'
import { resetError, Stream, type StreamHost } from './stream.ts'
import { WindowPool } from './window.ts'

/** The encrypted channel as the multiplexer sees it. Unlike other transports its send() seals at once and keeps no bytes. */
export interface RecordTransport extends Transport {
  rekeySending(): void
  rekeyReceiving(): void
}

export interface MuxOptions {
  readonly transport: RecordTransport
  readonly clock: Clock
  /** the agent's: takes a stream that the client opened, with the body of OPEN */
  readonly onOpen?: (stream: Stream, body: Uint8Array) => void
  /** the client's: the body of READY */
  readonly onReady?: (body: Uint8Array) => void
}

const NONE = new Uint8Array(0)
/** room in a record that is not worth a frame of its own */
const LEAST_ROOM_BYTES = 1_024
/** turns of the microtask queue without a new frame after which a tick has nothing more to say; a writer's next write takes about ten */
const QUIET_TURNS = 16

export class Mux implements StreamHost {
  readonly pool = new WindowPool()
  readonly #options: MuxOptions
  readonly #streams = new Map<number, Stream>()
  #queue: Frame[] = []
  /** where records are filled, again and again */
  #record: Uint8Array | undefined
  #queuedBytes = 0
  #flushing = false
  #ponging = false
  /** the client's, until READY came */
  #awaitsReady: boolean
  #nextId = 1
  #lastPeerId = -1
  #lastHeardMs: number
  #unreadBytes = 0
  #overruns = 0
  #ended: MortarError | undefined
  #cancelTimers: (() => void)[] = []

  constructor(options: MuxOptions) {
    this.#options = options
    this.#lastHeardMs = options.clock.now()
    this.#awaitsReady = options.onReady !== undefined
  }

  /** Takes records until the session ends: returns after an orderly go-away, fails with what ended it otherwise. */
  async run(): Promise<void> {
    this.#watch()
    try {
      for (;;) {
        const record = await this.#options.transport.receive()
        // what came in the same turn as the end comes too late
        if (!record || this.#ended) throw this.#ended ?? new MortarError('connection-lost')
        this.#lastHeardMs = this.#options.clock.now()
        this.#takeRecord(record)
        if (this.#ended) throw this.#ended
        // An end that makes the agent answer must take the answers. The client always reads, so that never both wait.
        if (this.#options.onOpen) await this.#options.transport.drained()
      }
    } catch (thrown) {
      // what ended it here is the reason, and not that its transport is closed since
      const error = this.#ended ?? asMortarError(thrown)
      if (error.code === 'going-away') return
      this.#end(error)
      throw error
    }
  }

  /** What is wrong with a record that opened is told to who sent it. */
  #takeRecord(record: Uint8Array): void {
    try {
      const frames = decodeFrames(record)
      for (const frame of frames) {
        // an answer to the one before may have found the transport gone: nothing that comes behind it begins any more
        if (this.#ended) return
        this.#receive(frame, frames.length)
      }
    } catch (thrown) {
      const error = asMortarError(thrown)
      this.#leave(error, encodeText(error.code))
    }
  }

  /** Opens a stream with the body of OPEN. Fails with limit-exceeded or with what ended the session. */
  openStream(body: Uint8Array): Stream {
    if (this.#ended) throw this.#ended
    if (this.#streams.size >= LIMITS.streams) throw new MortarError('limit-exceeded', 'open streams')
    const stream = new Stream(this.#nextId, this)
    this.#nextId += 2
    this.#streams.set(stream.id, stream)
    this.sendFrame('open', stream.id, body)
    return stream
  }

  sendReady(body: Uint8Array): void {
    this.sendFrame('ready', 0, body)
  }

  /** Ends the session in order: streams still open are reset at both ends. */
  goAway(code?: ErrorCode): void {
    this.#leave(new MortarError(code ?? 'going-away'), code ? encodeText(code) : NONE)
  }

  /** Ends the session with a last word. */
  #leave(error: MortarError, goAway: Uint8Array): void {
    if (this.#ended) return
    this.sendFrame('goAway', 0, goAway)
    this.#flush()
    this.#end(error)
  }

  sendFrame(type: FrameType, streamId: number, body: Uint8Array, flags = 0): void {
    if (this.#ended) throw this.#ended
    const frame = { type, streamId, flags, body }
    if (this.#queuedBytes + frameBytes(frame) > LIMITS.recordPlaintextBytes) this.#flush()
    this.#queue.push(frame)
    this.#queuedBytes += frameBytes(frame)
    if (!this.#flushing) void this.#flushAtEndOfTick()
  }

  /** Bytes of data that go into the record that is being filled; a whole record's when that one is as good as full. */
  room(): number {
    const room = LIMITS.recordPlaintextBytes - this.#queuedBytes - LIMITS.frameHeaderBytes
    return room < LEAST_ROOM_BYTES ? MOST_DATA_BYTES : room
  }

  /** Frames of one tick share records, also those of a writer that awaits each write; nothing waits for a timer. */
  async #flushAtEndOfTick(): Promise<void> {
    this.#flushing = true
    for (let quiet = 0, seen = -1; quiet < QUIET_TURNS; quiet++) {
      await null
      if (this.#queuedBytes !== seen) quiet = 0
      seen = this.#queuedBytes
    }
    this.#flushing = false
    this.#flush()
  }

  sendSecretFrame(streamId: number, body: Uint8Array): void {
    try {
      this.#flush()
      this.sendFrame('secret', streamId, body)
      this.#flush()
      if (!this.#ended) this.#options.transport.rekeySending()
    } finally {
      wipe(body)
    }
  }

  drained(): Promise<void> {
    return this.#options.transport.drained()
  }

  /** whether the session has ended */
  get over(): boolean {
    return this.#ended !== undefined
  }

  get clock(): Clock {
    return this.#options.clock
  }

  readonly countUnread = (byteCount: number): void => {
    this.#unreadBytes += byteCount
    if (this.#unreadBytes > LIMITS.sessionMessageBytes) throw new MortarError('limit-exceeded', 'unread messages')
  }

  countOverrun(): void {
    if (++this.#overruns >= LIMITS.overruns) throw new MortarError('protocol-violation', 'window overrun')
  }

  forget(streamId: number): void {
    this.#streams.delete(streamId)
  }

  /** Fills the queued frames into one record and sends it; they fit, sendFrame saw to that. */
  #flush(): void {
    if (this.#queue.length === 0 || this.#ended) return
    this.#record ??= new Uint8Array(LIMITS.recordPlaintextBytes)
    const record = this.#record.subarray(0, this.#queuedBytes)
    let offset = 0
    for (const frame of this.#queue) offset = encodeFrame(record, offset, frame)
    const secret = this.#queue.some(frame => frame.type === 'secret')
    this.#queue = []
    this.#queuedBytes = 0
    try {
      this.#options.transport.send(record)
    } catch (thrown) {
      this.#end(asMortarError(thrown, 'connection-lost'))
    }
    if (secret) wipe(record)
  }

  #receive(frame: Frame, framesInRecord: number): void {
    if (frame.type === 'goAway') {
      return this.#end(frame.body.length === 0 ? new MortarError('going-away') : resetError(frame.body))
    }
    if (this.#awaitsReady !== (frame.type === 'ready'))
      throw new MortarError('protocol-violation', 'READY comes first, once')
    if (frame.streamId !== 0) return this.#receiveForStream(frame, framesInRecord)
    if (frame.type === 'ping') this.#pong()
    else if (frame.type === 'ready') {
      this.#awaitsReady = false
      this.#options.onReady?.(frame.body)
    }
  }

  /** One PONG serves for all PINGs that came before it could leave. */
  #pong(): void {
    if (this.#ponging) return
    this.#ponging = true
    this.sendFrame('pong', 0, NONE)
    const left = () => {
      this.#ponging = false
    }
    this.#options.transport.drained().then(left, left)
  }

  #receiveForStream(frame: Frame, framesInRecord: number): void {
    if (frame.type === 'open') return this.#receiveOpen(frame)
    if (frame.flags !== 0 && this.#options.onOpen) throw new MortarError('protocol-violation', 'lane')
    try {
      if (frame.type === 'secret') {
        if (framesInRecord !== 1) throw new MortarError('protocol-violation', 'a secret shares its record')
        this.#options.transport.rekeyReceiving()
      }
      const stream = this.#streams.get(frame.streamId)
      if (stream) stream.receive(frame)
      else if (!this.#wasOpened(frame.streamId)) throw new MortarError('protocol-violation', 'no such stream')
    } finally {
      if (frame.type === 'secret') wipe(frame.body)
    }
  }

  /** What comes for a stream that is forgotten here was under way when it ended. */
  #wasOpened(streamId: number): boolean {
    return streamId % 2 === 1 && (streamId < this.#nextId || streamId <= this.#lastPeerId)
  }

  #receiveOpen(frame: Frame): void {
    const { onOpen } = this.#options
    if (!onOpen || frame.streamId % 2 === 0 || frame.streamId <= this.#lastPeerId) {
      throw new MortarError('protocol-violation', 'OPEN')
    }
    this.#lastPeerId = frame.streamId
    const stream = new Stream(frame.streamId, this)
    this.#streams.set(stream.id, stream)
    if (this.#streams.size > LIMITS.streams) stream.reset('limit-exceeded')
    else onOpen(stream, frame.body)
  }

  #end(error: MortarError): void {
    if (this.#ended) return
    this.#ended = error
    for (const cancel of this.#cancelTimers) cancel()
    for (const stream of [...this.#streams.values()]) stream.fail(error, 'lost')
    this.#options.transport.close()
  }

  /** Pings an end that is silent, gives up on one that stays so, and ends a session that has lived too long. */
  #watch(): void {
    const { clock } = this.#options
    const check = () => {
      const silenceMs = clock.now() - this.#lastHeardMs
      if (silenceMs > LIMITS.silenceMs) return this.#end(new MortarError('connection-lost', 'the other end is silent'))
      // first the timer: the ping may end the session, and that the timer
      this.#cancelTimers[0] = clock.after(LIMITS.pingMs / 2, check)
      if (silenceMs >= LIMITS.pingMs) this.sendFrame('ping', 0, NONE)
    }
    this.#cancelTimers = [clock.after(LIMITS.pingMs / 2, check), clock.after(LIMITS.sessionMs, () => this.goAway())]
  }
}
