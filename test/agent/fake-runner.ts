/** A runner as its user could have made it, for tests: it says to its agent what the test says. */
import { mkdtempSync, rmSync } from 'node:fs'
import { createServer, type Socket } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Runners } from '../../agent/guest/runners.ts'
import { encodeMessage, FrameReader } from '../../agent/runner/frames.ts'
import { RUNNER_VERSION, type Start, type ToRunner } from '../../agent/runner/messages.ts'

export const hello = encodeMessage({ type: 'hello', version: RUNNER_VERSION, programs: 0 })
export const pong = encodeMessage({ type: 'pong' })
export const started = (program: number) => encodeMessage({ type: 'started', program })
export const fromOf = (program: number, position: number) => encodeMessage({ type: 'from', program, position })

export const start: Start = {
  argv: ['x'],
  env: {},
  cwd: null,
  home: '/',
  size: null,
  memo: null,
  whenFull: 'wait',
  spoolBytes: 1,
  detached: false,
}

export class FakeRunner {
  readonly path: string
  /** messages that came, the last one last */
  readonly told: ToRunner[] = []
  socket: Socket | undefined
  /** what it says to hello */
  greeting: Uint8Array = hello
  readonly #folder = mkdtempSync(join(tmpdir(), 'mortar-fake-runner-'))
  readonly #server

  /** Says hello, answers pings, and calls back for whatever else it is told. */
  constructor(answer: (message: ToRunner, socket: Socket) => void = () => {}) {
    this.path = join(this.#folder, 'sock')
    this.#server = createServer(socket => {
      this.socket = socket
      const reader = new FrameReader()
      socket.on('error', () => {})
      socket.on('data', chunk => {
        for (const frame of reader.push(chunk)) {
          if (frame.type === 'data') continue
          const message = JSON.parse(frame.json) as ToRunner
          this.told.push(message)
          if (message.type === 'hello') socket.write(this.greeting)
          if (message.type === 'ping') socket.write(pong)
          answer(message, socket)
        }
      })
    }).listen(this.path)
  }

  /** What it was told of that type. */
  of<T extends ToRunner['type']>(type: T): Extract<ToRunner, { type: T }>[] {
    return this.told.filter((message): message is Extract<ToRunner, { type: T }> => message.type === type)
  }

  /** The runners of an agent that has this one. */
  asRunners(): Runners {
    const places = { write() {}, of: () => [], all: () => [], socketOf: () => this.path }
    const launcher = { start: async () => this.path, runs: () => true, kill: async () => {} }
    const asRoot = () => Promise.reject(new Error('nothing runs as root here'))
    return new Runners({ places: places as never, launcher: launcher as never, log: () => {}, asRoot })
  }

  dispose(): void {
    this.socket?.destroy()
    this.#server.close()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
