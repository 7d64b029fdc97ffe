/** What moves packets: a joined WebSocket, and the encrypted channel on top of it. */

export interface Transport {
  /** Queues a packet; order is kept. The transport owns the bytes from here on. */
  send(packet: Uint8Array): void
  /** The next packet, which is the caller's alone, or null once the other side has closed. Fails with what ended the transport otherwise. */
  receive(): Promise<Uint8Array | null>
  /** Resolves once little enough is queued that sending more is reasonable. */
  drained(): Promise<void>
  /** Ends the transport; both ends' receive() then return null. May be repeated. */
  close(): void
}

type Waiter = { resolve: (packet: Uint8Array | null) => void; reject: (cause: unknown) => void }

/** The receiving half that every transport needs: packets pushed in, packets taken out. */
export class PacketQueue {
  #packets: Uint8Array[] = []
  #bytes = 0
  #waiters: Waiter[] = []
  #ended = false
  #failure: unknown

  get length(): number {
    return this.#packets.length
  }

  /** of the packets in it */
  get bytes(): number {
    return this.#bytes
  }

  push(packet: Uint8Array): void {
    if (this.#ended) return
    const waiter = this.#waiters.shift()
    if (waiter) return waiter.resolve(packet)
    this.#packets.push(packet)
    this.#bytes += packet.length
  }

  /** Ends the queue; packets already in it can still be taken. With a failure, takers past them get it. */
  end(failure?: unknown): void {
    if (this.#ended) return
    this.#ended = true
    this.#failure = failure
    for (const waiter of this.#waiters.splice(0)) {
      if (failure === undefined) waiter.resolve(null)
      else waiter.reject(failure)
    }
  }

  take(): Promise<Uint8Array | null> {
    const packet = this.#packets.shift()
    if (packet) {
      this.#bytes -= packet.length
      return Promise.resolve(packet)
    }
    if (this.#failure !== undefined) return Promise.reject(this.#failure)
    if (this.#ended) return Promise.resolve(null)
    return new Promise((resolve, reject) => this.#waiters.push({ resolve, reject }))
  }
}
