/**
 * Connections to the SSH port, each in its share. Until somebody has logged in it counts by address among those that have come as
 * far, and then by the key too that it claims: who says nothing, from however many addresses, costs nobody anything who says more, and to push
 * out a client that logs in takes as much work as logging in. Where somebody logged in from before, connections count apart.
 * After the login one counts for the user, and a connection without a channel to a VM is not kept. SPEC §3.4
 */
import type { Socket } from 'node:net'
import { LIMITS } from '../../protocol/core/limits.ts'
import { addressGroup } from '../shares/address-group.ts'
import { Shares } from '../shares/shares.ts'
import { Places } from './places.ts'

/** how many connections there may be at each stage before the login: of one group, and in all */
const STAGES = {
  silent: { each: LIMITS.sshSilentPerAddress, most: LIMITS.sshSilent },
  speaking: { each: LIMITS.sshSpeakingPerAddress, most: LIMITS.sshUnknown },
  encrypted: { each: LIMITS.sshSpeakingPerAddress, most: LIMITS.sshUnknown },
  claiming: { each: LIMITS.sshClaimsPerKey, most: LIMITS.sshUnknown },
} as const
type Stage = keyof typeof STAGES

/** Those that have not logged in, at each stage. */
class Strangers {
  readonly #shares = new Map<Stage, Shares<Socket>>()
  readonly #stageOf = new Map<Socket, Stage>()

  constructor() {
    for (const [stage, limits] of Object.entries(STAGES)) {
      this.#shares.set(stage as Stage, new Shares<Socket>(socket => this.#drop(socket), limits))
    }
  }

  put(socket: Socket, stage: Stage, group: string): void {
    this.delete(socket)
    this.#stageOf.set(socket, stage)
    this.#shares.get(stage)?.add(socket, group)
  }

  has(socket: Socket): boolean {
    return this.#stageOf.has(socket)
  }

  delete(socket: Socket): void {
    const stage = this.#stageOf.get(socket)
    if (stage === undefined) return
    this.#stageOf.delete(socket)
    this.#shares.get(stage)?.delete(socket)
  }

  #drop(socket: Socket): void {
    this.#stageOf.delete(socket)
    socket.destroy()
  }
}

export class SshConnections {
  readonly #places = new Places()
  /** from where somebody logged in before, and from elsewhere */
  readonly #guests = new Strangers()
  readonly #strangers = new Strangers()
  readonly #users = new Shares<Socket>(socket => socket.destroy(), {
    each: LIMITS.sshPerUser,
    most: LIMITS.sshConnections,
  })
  /** keys by which somebody is logged in */
  readonly #keys = new Map<Socket, string>()
  readonly #channels = new Map<Socket, number>()
  readonly #idle = new Map<Socket, NodeJS.Timeout>()

  /** It was opened and has said nothing. */
  open(socket: Socket): void {
    const address = addressGroup(socket.remoteAddress)
    const those = this.#places.has(address) ? this.#guests : this.#strangers
    those.put(socket, 'silent', address)
    socket.on('close', () => this.#forget(socket))
  }

  /** It named itself as a speaker of SSH; and then agreed on keys, which costs both ends a computation. */
  advance(socket: Socket, stage: 'speaking' | 'encrypted'): void {
    this.#among(socket)?.put(socket, stage, addressGroup(socket.remoteAddress))
  }

  /** It wants to log in with a key that is registered. */
  claim(socket: Socket, key: string): void {
    this.#among(socket)?.put(socket, 'claiming', `${addressGroup(socket.remoteAddress)} ${key}`)
  }

  /** It has logged in. A key that several users named counts by itself, for which of them holds it is not known. */
  logIn(socket: Socket, key: string, users: readonly string[]): void {
    this.#among(socket)?.delete(socket)
    if (socket.destroyed) return
    const [user] = users
    const who = users.length === 1 && user !== undefined ? `user ${user}` : `key ${key}`
    this.#places.add(who, addressGroup(socket.remoteAddress))
    this.#keys.set(socket, key)
    this.#users.add(socket, who)
    this.#watchIdle(socket)
  }

  /** Counts a channel to a VM; returns what is to be called at its end. */
  openChannel(socket: Socket): () => void {
    clearTimeout(this.#idle.get(socket))
    this.#channels.set(socket, (this.#channels.get(socket) ?? 0) + 1)
    return () => {
      const left = (this.#channels.get(socket) ?? 1) - 1
      this.#channels.set(socket, left)
      if (left === 0) this.#watchIdle(socket)
    }
  }

  /** Ends what is logged in by a key. */
  drop(key: string): void {
    for (const [socket, known] of this.#keys) if (known === key) socket.destroy()
  }

  #watchIdle(socket: Socket): void {
    if (socket.destroyed) return
    this.#idle.set(socket, setTimeout(() => socket.destroy(), LIMITS.sshIdleMs).unref())
  }

  /** Where it counts until it has logged in. */
  #among(socket: Socket): Strangers | undefined {
    return [this.#guests, this.#strangers].find(those => those.has(socket))
  }

  #forget(socket: Socket): void {
    this.#among(socket)?.delete(socket)
    this.#users.delete(socket)
    this.#keys.delete(socket)
    this.#channels.delete(socket)
    clearTimeout(this.#idle.get(socket))
    this.#idle.delete(socket)
  }
}
