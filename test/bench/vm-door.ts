/**
 * A way into a VM that is no network: a virtio port of the bench's own, plugged into the running VM, at whose end sshd waits. Here it
 * is a TCP port of loopback, for `ssh` to connect to, one connection after the other.
 */

import type { AddressInfo } from 'node:net'
import { connect, createServer, type Server, type Socket } from 'node:net'

/** what sshd says first; anything before it is left over from the connection before */
const GREETING = Buffer.from('SSH-2.0-')

export class VmDoor {
  readonly #server: Server
  readonly #inside: Socket
  #outside: Socket | undefined
  /** whether who is outside was given the greeting of a sshd that waits for nobody else */
  #greeted = false
  /** what sshd said while nobody was there */
  #waiting: Buffer = Buffer.alloc(0)

  private constructor(inside: Socket) {
    this.#inside = inside
    this.#server = createServer({ noDelay: true }, socket => this.#enter(socket))
    inside.on('data', chunk => {
      if (this.#greeted) this.#outside?.write(chunk)
      else {
        this.#waiting = Buffer.concat([this.#waiting, chunk])
        this.#greet()
      }
    })
  }

  /** `path`: QEMU's end of the port. */
  static async open(path: string): Promise<VmDoor> {
    const inside = connect(path)
    await new Promise<void>((resolve, reject) => {
      inside.once('connect', resolve)
      inside.once('error', reject)
    })
    const door = new VmDoor(inside)
    await new Promise<void>(resolve => door.#server.listen(0, '127.0.0.1', resolve))
    return door
  }

  get port(): number {
    return (this.#server.address() as AddressInfo).port
  }

  #enter(socket: Socket): void {
    this.#outside = socket
    socket.on('data', chunk => this.#inside.write(chunk))
    // what it says now, the sshd of the connection before would take
    socket.pause()
    socket.on('error', () => socket.destroy())
    socket.on('close', () => {
      if (this.#outside !== socket) return
      this.#outside = undefined
      this.#greeted = false
    })
    this.#greet()
  }

  #greet(): void {
    const begin = this.#waiting.lastIndexOf(GREETING)
    if (!this.#outside || begin < 0) return
    this.#outside.write(this.#waiting.subarray(begin))
    this.#waiting = Buffer.alloc(0)
    this.#greeted = true
    this.#outside.resume()
  }

  close(): void {
    this.#server.close()
    this.#outside?.destroy()
    this.#inside.destroy()
  }
}
