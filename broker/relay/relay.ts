/**
 * The relay: gives out one-use tokens for a pair, waits for its two ends, joins them. It imports nothing but protocol/core
 * and knows VMs and users only by id. SPEC §4
 */
import { createHash, randomBytes, randomUUID } from 'node:crypto'
import type { Duplex } from 'node:stream'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { closeWith, joinPair } from './pair.ts'

type End = 'client' | 'agent'

interface Pair {
  readonly session: string
  readonly vmId: string
  /** who asked for it */
  readonly user: string
  /** whether that is the VM's owner */
  readonly isOwner: boolean
  readonly tokens: Readonly<Record<End, string>>
  readonly sockets: Partial<Record<End, Duplex>>
  /** what a socket that closes before the other end came sets off */
  readonly early: () => void
  cancel(): void
  /** why it will not come about, kept for a client that is still on its way */
  failure?: ErrorCode
  /** ends it once it is joined */
  end?: (code: ErrorCode) => void
}

type Asked = Pick<Pair, 'vmId' | 'user' | 'isOwner'>

export interface RelayParts {
  readonly clock: Clock
  onJoined(pair: { session: string; vmId: string }): void
  onEnded(pair: { session: string; vmId: string; toAgent: number; toClient: number }): void
}

export class Relay {
  readonly #parts: RelayParts
  readonly #pairs = new Map<string, Pair>()
  /** by SHA-256 of the token */
  readonly #tokens = new Map<string, { pair: Pair; end: End }>()

  constructor(parts: RelayParts) {
    this.#parts = parts
  }

  /** Expects a pair; both ends must come within LIMITS.joinMs. Fails with rate-limited. */
  open(asked: Asked): { session: string; clientToken: string; agentToken: string } {
    if (this.#isFull(asked)) throw new MortarError('rate-limited', 'sessions')
    const [clientToken, agentToken] = [newToken(), newToken()]
    const pair: Pair = {
      session: randomUUID(),
      ...asked,
      tokens: { client: hashOf(clientToken), agent: hashOf(agentToken) },
      sockets: {},
      early: () => this.#forget(pair, 'connection-lost'),
      cancel: this.#parts.clock.after(LIMITS.joinMs, () => this.#forget(pair, pair.failure ?? 'vm-unreachable')),
    }
    this.#pairs.set(pair.session, pair)
    for (const end of ['client', 'agent'] as const) this.#tokens.set(pair.tokens[end], { pair, end })
    return { session: pair.session, clientToken, agentToken }
  }

  #isFull({ vmId, user, isOwner }: Asked): boolean {
    const pairs = [...this.#pairs.values()]
    const ofUser = pairs.filter(pair => pair.user === user)
    const ofVm = pairs.filter(pair => pair.vmId === vmId)
    if (pairs.length >= LIMITS.sessionsPerBroker || ofUser.length >= LIMITS.sessionsPerUser) return true
    if (ofVm.length >= LIMITS.sessionsPerVm) return true
    if (isOwner) return false
    // what all the others may have together leaves the owner as many as one of them
    const ofOthers = ofVm.filter(pair => !pair.isOwner)
    return (
      ofOthers.length >= LIMITS.sessionsPerVm - LIMITS.sessionsPerVmEach ||
      ofOthers.filter(pair => pair.user === user).length >= LIMITS.sessionsPerVmEach
    )
  }

  /** Spends a token; false when there is none such. The caller then answers the upgrade and calls take(). */
  spend(token: string): { take(socket: Duplex): void } | undefined {
    const hash = hashOf(token)
    const held = this.#tokens.get(hash)
    if (!held) return undefined
    this.#tokens.delete(hash)
    return { take: socket => this.#take(held.pair, held.end, socket) }
  }

  #take(pair: Pair, end: End, socket: Duplex): void {
    socket.on('error', () => undefined)
    if (this.#pairs.get(pair.session) !== pair) return closeWith(socket, 'vm-unreachable', this.#parts.clock)
    if (pair.failure) {
      pair.sockets[end] = socket
      return this.#forget(pair, pair.failure)
    }
    // nothing is read before the other end is there: what it sends early waits in its own kernel
    socket.pause()
    pair.sockets[end] = socket
    socket.once('close', pair.early)
    const { client, agent } = pair.sockets
    if (!client || !agent) return
    pair.cancel()
    for (const each of [client, agent]) each.off('close', pair.early)
    this.#parts.onJoined(pair)
    pair.end = joinPair(client, agent, this.#parts.clock, bytes => {
      this.#pairs.delete(pair.session)
      this.#parts.onEnded({ session: pair.session, vmId: pair.vmId, ...bytes })
    })
  }

  /** Ends a pair that is not joined yet; who waits is told the code. */
  fail(vmId: string, session: string, code: ErrorCode): void {
    const pair = this.#pairs.get(session)
    if (pair?.vmId !== vmId || (pair.sockets.client && pair.sockets.agent)) return
    if (this.#tokens.has(pair.tokens.client)) pair.failure ??= code
    else this.#forget(pair, code)
  }

  /** Ends all pairs of a VM. */
  closeVm(vmId: string): void {
    for (const pair of [...this.#pairs.values()]) if (pair.vmId === vmId) this.#forget(pair, 'going-away')
  }

  close(): void {
    for (const pair of [...this.#pairs.values()]) this.#forget(pair, 'going-away')
  }

  #forget(pair: Pair, code: ErrorCode): void {
    pair.cancel()
    this.#pairs.delete(pair.session)
    for (const token of Object.values(pair.tokens)) this.#tokens.delete(token)
    if (pair.end) pair.end(code)
    else for (const socket of Object.values(pair.sockets)) closeWith(socket, code, this.#parts.clock)
  }
}

function newToken(): string {
  return encodeBase64url(randomBytes(32))
}

function hashOf(token: string): string {
  return createHash('sha256').update(token).digest('base64url')
}
