/**
 * Connections to the SSH port, each in its share. Until somebody has logged in it is counted by address, with more room for
 * one that has come further, and then by the key that it claims: to push out a client that logs in takes as much work as
 * logging in. After the login it counts for the user, and a connection without a channel to a VM is not kept. SPEC §3.4
 */
import type { Socket } from 'node:net'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Shares } from '../shares.ts'

export class SshConnections {
  readonly #strangers = new Shares<Socket>(socket => socket.destroy(), {
    each: LIMITS.sshSilentPerAddress,
    most: LIMITS.sshUnknown,
  })
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
    this.#strangers.add(socket, `silent ${socket.remoteAddress}`)
    socket.on('close', () => this.#forget(socket))
  }

  /** It named itself as a speaker of SSH; and then agreed on keys, which costs both ends a computation. */
  advance(socket: Socket, stage: 'speaking' | 'encrypted'): void {
    if (this.#strangers.has(socket)) {
      this.#strangers.add(socket, `${stage} ${socket.remoteAddress}`, LIMITS.sshSpeakingPerAddress)
    }
  }

  /** It wants to log in with a key that is registered. */
  claim(socket: Socket, key: string): void {
    if (this.#strangers.has(socket)) this.#strangers.add(socket, `key ${key}`, LIMITS.sshClaimsPerKey)
  }

  /** It has logged in. A key that several users named counts by itself, for which of them holds it is not known. */
  logIn(socket: Socket, key: string, users: readonly string[]): void {
    this.#strangers.delete(socket)
    if (socket.destroyed) return
    const [user] = users
    this.#keys.set(socket, key)
    this.#users.add(socket, users.length === 1 && user !== undefined ? `user ${user}` : `key ${key}`)
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

  #forget(socket: Socket): void {
    this.#strangers.delete(socket)
    this.#users.delete(socket)
    this.#keys.delete(socket)
    this.#channels.delete(socket)
    clearTimeout(this.#idle.get(socket))
    this.#idle.delete(socket)
  }
}
