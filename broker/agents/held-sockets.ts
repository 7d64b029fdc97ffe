/** The control sockets of agents that have enrolled: of each VM the current one's, and those of boots that wait. */
import type { ControlSocket } from '../http/websocket.ts'

export interface Held {
  readonly socket: ControlSocket
  /** its owner has proven an identity there */
  ready: boolean
}

export class HeldSockets {
  /** by VM, then by the agent's Ed25519 key */
  readonly #sockets = new Map<string, Map<string, Held>>()

  get(vmId: string, agentSign: string): Held | undefined {
    return this.#sockets.get(vmId)?.get(agentSign)
  }

  /** Keeps a socket in the place of the same agent's former one, which is returned. */
  put(vmId: string, agentSign: string, socket: ControlSocket): ControlSocket | undefined {
    const ofVm = this.#sockets.get(vmId) ?? new Map<string, Held>()
    this.#sockets.set(vmId, ofVm)
    const former = ofVm.get(agentSign)
    ofVm.set(agentSign, { socket, ready: false })
    return former?.socket
  }

  /** Forgets a socket; false when it is not the one that is kept. */
  delete(vmId: string, agentSign: string, socket: ControlSocket): boolean {
    const ofVm = this.#sockets.get(vmId)
    if (ofVm?.get(agentSign)?.socket !== socket) return false
    ofVm.delete(agentSign)
    if (ofVm.size === 0) this.#sockets.delete(vmId)
    return true
  }

  /** Forgets and closes the sockets of a VM whose agents `keep` does not name. */
  closeOthers(vmId: string, keep: readonly string[] = []): void {
    const ofVm = this.#sockets.get(vmId)
    for (const [agentSign, { socket }] of ofVm ?? []) {
      if (keep.includes(agentSign)) continue
      ofVm?.delete(agentSign)
      socket.close()
    }
    if (ofVm?.size === 0) this.#sockets.delete(vmId)
  }

  *[Symbol.iterator](): IterableIterator<ControlSocket> {
    for (const ofVm of this.#sockets.values()) for (const { socket } of ofVm.values()) yield socket
  }
}
