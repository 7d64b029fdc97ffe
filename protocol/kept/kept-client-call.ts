/**
 * The client's half of a kept call, which is begun in one session and taken up again in others. The client chooses the id,
 * so that even a call whose ACCEPT was lost is found again. SPEC §8.2
 */
import { accepted, type ClientCall, clientHalf } from '../call.ts'
import type { Command, Params, Ready } from '../commands/command.ts'
import type { Clock } from '../core/clock.ts'
import { decodeCbor, encodeCbor } from '../core/codec.ts'
import { asMortarError, MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import { object, uint } from '../core/schema.ts'
import type { Mux } from '../mux/mux.ts'
import type { Stream } from '../mux/stream.ts'
import { KeptStream } from './kept-stream.ts'

export interface KeptClientCallOptions<C extends Command> {
  readonly command: C
  readonly params: Params<C>
  /** 16 random bytes */
  readonly id: Uint8Array
  readonly clock: Clock
  /** somebody began it before: it is only taken up */
  readonly begun?: boolean
  /** its session is gone: attachTo() another */
  onLost(): void
  onOver(): void
}

export class KeptClientCall<C extends Command> {
  readonly #options: KeptClientCallOptions<C>
  readonly #stream: KeptStream
  readonly #call = Promise.withResolvers<ClientCall<C>>()
  #tried = false
  #accepted = false

  constructor(options: KeptClientCallOptions<C>) {
    if (!options.command.kept) throw new MortarError('internal', `${options.command.name} cannot be kept`)
    this.#options = options
    this.#tried = options.begun ?? false
    // what the user sends waits when it cannot go
    this.#stream = new KeptStream({
      whenFull: 'wait',
      side: 'client',
      onLost: options.onLost,
      onOver: options.onOver,
    })
    this.#call.promise.catch(() => undefined)
  }

  /** Resolves once the agent has accepted. Fails with the agent's code. */
  get call(): Promise<ClientCall<C>> {
    return this.#call.promise
  }

  /**
   * Begins the call, or takes it up again. Fails with the agent's code, connection-lost; call-unknown when it is not there,
   * and then it never will be.
   */
  async attachTo(mux: Mux): Promise<void> {
    const { command, params, id } = this.#options
    const begin = { command: command.name, params, keep: id }
    const attach = { attach: id, received: this.#stream.received }
    const stream = mux.openStream(encodeCbor(this.#tried ? attach : begin))
    // not when the session was gone before anything could leave
    this.#tried = true
    await this.#carryOn(stream)
  }

  /** Gives the call up: its reader and its writers fail with the error. */
  fail(error: MortarError): void {
    this.#call.reject(error)
    this.#stream.fail(error)
  }

  async #carryOn(stream: Stream): Promise<void> {
    const { command, clock } = this.#options
    const { items, answer } = await accepted(stream, clock)
    try {
      const schema = object({ ready: command.ready, from: uint(), received: uint() })
      const { ready, ...positions } = decodeCbor(schema, answer, LIMITS.messageBytes, 'protocol-violation')
      this.#stream.attachAccepted({ stream, items }, positions)
      this.#accept(ready as Ready<C>)
    } catch (thrown) {
      stream.reset(asMortarError(thrown).code)
      throw thrown
    }
  }

  #accept(ready: Ready<C>): void {
    if (this.#accepted) return
    this.#accepted = true
    const sendSecret = () => Promise.reject(new MortarError('internal', 'secrets are not kept'))
    const half = { items: this.#stream.items(), ready, sendSecret }
    this.#call.resolve(clientHalf(this.#options.command, this.#stream, half))
  }
}
