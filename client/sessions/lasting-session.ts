/**
 * A session that outlives its socket: when that breaks while programs or terminals run, it connects again and takes them
 * up where they were. SPEC §8.2
 */
import type { ClientCall } from '../../protocol/call.ts'
import type { Command, Params } from '../../protocol/commands/command.ts'
import { asMortarError, type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { sleep } from '../host/clock.ts'
import type { Host } from '../host/host.ts'

/** ms between tries to connect again: the first, and at most; up to half as much comes on top, by chance */
const RETRY_MS = { first: 250, most: 5_000 }

/** ms after which a session has held: the next loss is a new one, with its own pauses and hour */
const HELD_MS = 10_000

/** ms after a loss in which the agent may still count sessions that it has not noticed are dead; it does not say why it refuses */
const COUNTED_MS = 90_000

/**
 * What may be over in a moment: the network, the broker or its connection to the agent is away, a packet was damaged, or
 * there are too many sessions until dead ones are noticed.
 */
const PASSING: readonly ErrorCode[] = [
  'connection-lost',
  'broker-unreachable',
  'vm-unreachable',
  'going-away',
  'timeout',
  'rate-limited',
  'limit-exceeded',
  'handshake',
  'record-invalid',
]

export interface LastingOptions {
  readonly host: Host
  /** Connects anew, with the VM as the broker now shows it. */
  connect(): Promise<ClientSession>
  /** the socket broke while something runs; tries go on until one works or an hour is over */
  onLost?(error: MortarError): void
  onBack?(): void
  /** waits for so many ms, or until the signal aborts; the host's timers unless given */
  readonly sleep?: typeof sleep
}

type AnyCall = Pick<KeptClientCall<Command>, 'attachTo' | 'fail'>

/** Connects, and from then on connects again when it must. Fails as `connect` does. */
export async function openLasting(options: LastingOptions): Promise<ClientSession> {
  return new LastingSession(options, await options.connect())
}

class LastingSession implements ClientSession {
  readonly #options: LastingOptions
  readonly #closing = new AbortController()
  readonly #calls = new Set<AnyCall>()
  readonly #closed = Promise.withResolvers<MortarError | undefined>()
  #current: ClientSession
  #over = false
  /** ms, of the host's clock: when #current began, when it was lost, and when the losses began that nothing held between */
  #sinceMs: number
  #lostMs = 0
  #awaySinceMs: number | undefined
  #pauseMs: number = RETRY_MS.first

  constructor(options: LastingOptions, first: ClientSession) {
    this.#options = options
    this.#current = first
    this.#sinceMs = options.host.clock.now()
    void this.#watch()
  }

  get nextBoot(): Uint8Array | undefined {
    return this.#current.nextBoot
  }

  get commands(): readonly string[] {
    return this.#current.commands
  }

  get bindingHash(): Uint8Array {
    return this.#current.bindingHash
  }

  get over(): boolean {
    return this.#over
  }

  get closed(): Promise<MortarError | undefined> {
    return this.#closed.promise
  }

  /** A command that can be kept is; others end with the session that they began in. */
  async open<C extends Command>(command: C, params: Params<C>): Promise<ClientCall<C>> {
    if (!command.kept) return this.#current.open(command, params)
    const { suite, clock } = this.#options.host
    const call: KeptClientCall<C> = new KeptClientCall({
      command,
      params,
      id: suite.randomBytes(16),
      clock,
      // attached again by #watch()
      onLost() {},
      onOver: () => this.#calls.delete(call),
    })
    this.#calls.add(call)
    await this.attach(call)
    return call.call
  }

  /** Attaches now; if the session is just breaking, #watch() does it later. Fails with the agent's code. */
  async attach(call: AnyCall): Promise<void> {
    const session = this.#current
    try {
      await session.attach(call)
    } catch (thrown) {
      if (session.over && !this.#over) return
      this.#calls.delete(call)
      const error = asMortarError(thrown)
      call.fail(error)
      throw error
    }
  }

  close(): void {
    this.#closing.abort()
    this.#failCalls(new MortarError('going-away'))
    this.#current.close()
  }

  async #watch(): Promise<void> {
    for (;;) {
      const error = await this.#current.closed
      const passing = error === undefined || PASSING.includes(error.code)
      if (this.#closing.signal.aborted || this.#calls.size === 0 || !passing) return this.#finish(error)
      const loss = error ?? new MortarError('going-away')
      this.#options.onLost?.(loss)
      try {
        this.#current = await this.#reconnect(loss)
      } catch (thrown) {
        return this.#finish(asMortarError(thrown))
      }
      this.#sinceMs = this.#options.host.clock.now()
      // close() may have come too late for #reconnect(), and closed the one before
      if (this.#closing.signal.aborted) this.#current.close()
      await Promise.allSettled([...this.#calls].map(call => this.attach(call)))
      if (!this.#current.over) this.#options.onBack?.()
    }
  }

  /** Fails with the last error when an hour is over, with one that does not pass, or going-away. */
  async #reconnect(loss: MortarError): Promise<ClientSession> {
    const { host, connect } = this.#options
    this.#lostMs = host.clock.now()
    if (this.#awaySinceMs === undefined || this.#lostMs - this.#sinceMs >= HELD_MS) {
      this.#awaySinceMs = this.#lostMs
      this.#pauseMs = RETRY_MS.first
    }
    for (let error = loss; ; ) {
      if (host.clock.now() > this.#awaySinceMs + LIMITS.keptMs) throw error
      await this.#pause()
      if (this.#closing.signal.aborted) throw new MortarError('going-away')
      try {
        const session = await connect()
        if (!this.#closing.signal.aborted) return session
        session.close()
      } catch (thrown) {
        error = asMortarError(thrown)
        if (!this.#passes(error)) throw error
      }
    }
  }

  /** Longer each time, and never the same for all who lost the same broker. */
  async #pause(): Promise<void> {
    const { host, sleep: wait = sleep } = this.#options
    const chance = (host.suite.randomBytes(1)[0] as number) / 256
    const pauseMs = this.#pauseMs
    this.#pauseMs = Math.min(2 * pauseMs, RETRY_MS.most)
    await wait(pauseMs * (1 + chance / 2), this.#closing.signal)
  }

  #passes({ code }: MortarError): boolean {
    if (code === 'grant-invalid') return this.#options.host.clock.now() < this.#lostMs + COUNTED_MS
    return PASSING.includes(code)
  }

  #finish(error: MortarError | undefined): void {
    this.#over = true
    this.#failCalls(error ?? new MortarError('going-away'))
    this.#closed.resolve(this.#closing.signal.aborted ? undefined : error)
  }

  #failCalls(error: MortarError): void {
    for (const call of this.#calls) call.fail(error)
    this.#calls.clear()
  }
}
