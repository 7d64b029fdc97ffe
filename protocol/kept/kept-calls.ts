/** The kept calls of an agent, across its sessions: who may take which up again, and how long they wait. SPEC §8.2 */
import type { Command } from '../commands/command.ts'
import { encodeHex } from '../core/bytes.ts'
import { type Clock, callAt } from '../core/clock.ts'
import { MortarError } from '../core/errors.ts'
import { LIMITS } from '../core/limits.ts'
import type { Rights } from '../rights.ts'
import { KeptStream } from './kept-stream.ts'

export interface KeptCall {
  readonly command: Command
  /** as they came, to be held against the rights of who takes the call up again */
  readonly params: unknown
  /** as the client chose it, 16 bytes */
  readonly id: Uint8Array
  /** whether it waits for its client without a limit of time */
  readonly lasts: boolean
  readonly stream: KeptStream
  /** the handler is done; what it said may still have to be fetched */
  done(): void
}

/** A call that an earlier agent kept, and of which the program goes on. */
export interface LeftCall {
  readonly id: Uint8Array
  readonly grantee: string | null
  readonly command: Command
  readonly params: unknown
  /** position up to which its handler had taken what the client sent */
  readonly received: number
  /** its program has ended */
  readonly isDone: boolean
}

/** What the caller of calls may know of one. */
export interface KeptState {
  readonly id: Uint8Array
  readonly command: Command
  readonly params: unknown
  readonly isDone: boolean
  readonly lasts: boolean
}

interface Held extends KeptCall {
  readonly key: string
  readonly grantee: string | null
  isDone: boolean
  /** stops the time that it waits for its client; undefined while one is there */
  stopWaiting: (() => void) | undefined
}

export class KeptCalls {
  readonly #clock: Clock
  readonly #held = new Map<string, Held>()
  /** by caller: ids that begin no call of theirs any more, oldest first */
  readonly #spent = new Map<string | null, Set<string>>()
  /** Resolves once all that an earlier agent kept for a caller is known. */
  found: (grantee: string | null) => Promise<unknown> = async () => {}

  constructor(clock: Clock) {
    this.#clock = clock
  }

  get size(): number {
    return this.#held.size
  }

  /** calls whose handler is not done */
  get running(): number {
    return [...this.#held.values()].filter(held => !held.isDone).length
  }

  /** Begins to keep a call under the id that its client chose. Fails with bad-request or limit-exceeded. */
  start(id: Uint8Array, rights: Rights, { command, params }: Pick<KeptCall, 'command' | 'params'>): KeptCall {
    if (!command.kept) throw new MortarError('bad-request', `${command.name} cannot be kept`)
    const key = encodeHex(id)
    if (this.#held.has(key) || this.#spent.get(rights.grantee)?.has(key)) {
      throw new MortarError('bad-request', 'id of a kept call used twice')
    }
    this.#makeRoom(rights.grantee)
    return this.#hold({ id, grantee: rights.grantee, command, params, received: 0, isDone: false }, rights.endsMs)
  }

  /**
   * Keeps a call on that an earlier agent kept; it waits for its client from now on. The end of its grant ends it from
   * outside. Fails with bad-request or limit-exceeded.
   */
  restore(left: LeftCall): KeptCall {
    const { id, grantee, command } = left
    if (!command.kept || this.#held.has(encodeHex(id))) throw new MortarError('bad-request', 'a call twice')
    this.#makeRoom(grantee)
    const held = this.#hold(left, null)
    this.#wait(held, null)
    return held
  }

  /** The caller's calls. */
  list(grantee: string | null): KeptState[] {
    return [...this.#held.values()].filter(held => held.grantee === grantee)
  }

  #hold({ id, grantee, command, params, received, isDone }: LeftCall, endsMs: number | null): Held {
    const held: Held = {
      id,
      key: encodeHex(id),
      grantee,
      command,
      params,
      lasts: (command.lasts as ((params: unknown) => boolean) | undefined)?.(params) ?? false,
      stream: new KeptStream({
        whenFull: command.kept ?? 'wait',
        side: 'agent',
        received,
        onDone: () => held.done(),
        onLost: () => this.#wait(held, endsMs),
        onOver: () => this.#forget(held),
      }),
      isDone,
      stopWaiting: undefined,
      done() {
        held.isDone = true
      },
    }
    this.#held.set(held.key, held)
    return held
  }

  /** The call of that id, if this caller began it. Fails with call-unknown. */
  find(id: Uint8Array, rights: Rights): KeptCall {
    const key = encodeHex(id)
    const held = this.#held.get(key)
    if (held && held.grantee === rights.grantee) return held
    // who was told that there is no such call must not have it begin later, when an OPEN that was held up arrives
    if (!held) this.#spend(rights.grantee, key)
    throw new MortarError('call-unknown')
  }

  /** A client is there again, unless it is gone already. */
  taken(call: KeptCall): void {
    const held = call as Held
    if (!held.stream.carried) return
    held.stopWaiting?.()
    held.stopWaiting = undefined
  }

  /** Ends the calls of a grantee, or all of them. */
  end(whose: { readonly grantee: string } | 'all', error: MortarError): void {
    for (const held of [...this.#held.values()]) {
      if (whose === 'all' || held.grantee === whose.grantee) this.#giveUp(held, error)
    }
    // with its sessions goes what could still have begun in them
    if (whose !== 'all') this.#spent.delete(whose.grantee)
  }

  /** The caller's own that are done and that nobody fetched go first, never another's. Fails with limit-exceeded. */
  #makeRoom(grantee: string | null): void {
    const all = [...this.#held.values()]
    const own = all.filter(held => held.grantee === grantee)
    const granted = all.filter(held => held.grantee !== null)
    // what grantees may have together leaves the owner a share
    const isShareFull = grantee !== null && granted.length >= LIMITS.keptCalls - LIMITS.keptCallsEach
    if (own.length < LIMITS.keptCallsEach && !isShareFull) return
    const old = own.find(held => held.isDone && held.stopWaiting)
    if (!old) throw new MortarError('limit-exceeded', 'kept calls')
    this.#giveUp(old, new MortarError('limit-exceeded'))
  }

  #wait(held: Held, endsMs: number | null): void {
    held.stopWaiting?.()
    const giveUp = () => this.#giveUp(held, new MortarError('timeout', 'nobody came back'))
    const waitsMs = held.stream.failed ? LIMITS.keptFailedMs : held.lasts ? null : LIMITS.keptMs
    const cancel = waitsMs === null ? () => {} : this.#clock.after(waitsMs, giveUp)
    const cancelEnd = endsMs === null ? () => {} : callAt(this.#clock, endsMs, giveUp)
    held.stopWaiting = () => {
      cancel()
      cancelEnd()
    }
  }

  #giveUp(held: Held, error: MortarError): void {
    held.stream.fail(error)
    this.#forget(held)
  }

  #forget(held: Held): void {
    held.stopWaiting?.()
    if (this.#held.delete(held.key)) this.#spend(held.grantee, held.key)
  }

  #spend(grantee: string | null, id: string): void {
    const spent = this.#spent.get(grantee) ?? new Set()
    this.#spent.set(grantee, spent.add(id))
    const [oldest] = spent
    if (spent.size > LIMITS.spentCalls && oldest !== undefined) spent.delete(oldest)
  }
}
