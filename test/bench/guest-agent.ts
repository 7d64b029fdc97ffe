/** QEMU's guest agent as a peer: commands as JSON lines over a socket; a program's end is polled for, since nothing tells it. */
import { existsSync } from 'node:fs'
import { connect, type Socket } from 'node:net'
import { createInterface } from 'node:readline'
import { setTimeout as delay } from 'node:timers/promises'
import type { Way } from './exec-rounds.ts'

export const QEMU_GA = '/usr/sbin/qemu-ga'

/** Why the peer cannot run here, or null. */
export const guestAgentMissing = () => (existsSync(QEMU_GA) ? null : `${QEMU_GA} is not installed (qemu-guest-agent)`)

interface Status {
  readonly exited: boolean
  readonly exitcode?: number
  readonly 'out-data'?: string
}

export class GuestAgent {
  readonly #socket: Socket
  readonly #lines: AsyncIterator<string>

  private constructor(socket: Socket) {
    this.#socket = socket
    this.#lines = createInterface({ input: socket })[Symbol.asyncIterator]()
  }

  /** `path`: of its Unix socket. Waits until it answers. */
  static async connect(path: string): Promise<GuestAgent> {
    for (let tries = 0; ; tries++) {
      const socket = connect(path)
      try {
        await new Promise<void>((resolve, reject) => {
          socket.once('connect', resolve)
          socket.once('error', reject)
        })
        const agent = new GuestAgent(socket)
        await agent.#call('guest-ping')
        return agent
      } catch (cause) {
        socket.destroy()
        if (tries === 100) throw cause
        await delay(200)
      }
    }
  }

  async #call<T>(execute: string, args: object = {}): Promise<T> {
    this.#socket.write(`${JSON.stringify({ execute, arguments: args })}\n`)
    const { value, done } = await this.#lines.next()
    if (done) throw new Error('qemu-ga is gone')
    const answer = JSON.parse(value) as { return: T; error?: { desc: string } }
    if (answer.error) throw new Error(`qemu-ga: ${answer.error.desc}`)
    return answer.return
  }

  /** Runs a program, asking for its end every so many ms; 0 asks without a pause. */
  async #run([path = '', ...arg]: readonly string[], pollMs: number) {
    const { pid } = await this.#call<{ pid: number }>('guest-exec', { path, arg, 'capture-output': true })
    for (;;) {
      const status = await this.#call<Status>('guest-exec-status', { pid })
      if (status.exited) {
        const stdout = Buffer.from(status['out-data'] ?? '', 'base64').toString()
        return { code: status.exitcode ?? null, stdout }
      }
      if (pollMs > 0) await delay(pollMs)
    }
  }

  way(name: string, pollMs: number, perRound: number): Way {
    return {
      name,
      perRound,
      run: argv => this.#run(argv, pollMs),
      once: async () => {
        const started = performance.now()
        const { code } = await this.#run(['/bin/true'], pollMs)
        if (code !== 0) throw new Error(`${name}: true ended with ${code}`)
        return performance.now() - started
      },
    }
  }

  close(): void {
    this.#socket.destroy()
  }
}
