/** Programs that a bench starts: read by lines, ended by their own ids. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createInterface, type Interface } from 'node:readline'

export class Child {
  readonly process: ChildProcess
  readonly #lines: AsyncIterator<string>
  readonly #interface: Interface
  readonly ended: Promise<number | null>

  constructor(command: string, args: readonly string[]) {
    this.process = spawn(command, args, { stdio: ['pipe', 'pipe', 'inherit'] })
    if (!this.process.stdout) throw new Error('no stdout')
    this.#interface = createInterface({ input: this.process.stdout })
    this.#lines = this.#interface[Symbol.asyncIterator]()
    this.ended = new Promise((resolve, reject) => {
      this.process.on('error', reject)
      this.process.on('close', resolve)
    })
  }

  /** A program of this folder, run by this Node. */
  static node(file: string, args: readonly string[], flags: readonly string[] = []): Child {
    return new Child(process.execPath, [...flags, new URL(file, import.meta.url).pathname, ...args])
  }

  /** Its next line as JSON. */
  async read<T>(): Promise<T> {
    const { value, done } = await this.#lines.next()
    if (done) throw new Error(`${this.process.spawnfile} ended with ${await this.ended}`)
    return JSON.parse(value) as T
  }

  write(line: string): void {
    this.process.stdin?.write(`${line}\n`)
  }

  async stop(): Promise<void> {
    this.process.stdin?.destroy()
    if (this.process.exitCode === null && this.process.signalCode === null) this.process.kill('SIGTERM')
    await this.ended.catch(() => null)
  }
}
