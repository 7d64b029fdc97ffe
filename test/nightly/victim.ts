/** A process that the nightly run may kill: started from a bundle, so that a thousand starts cost seconds and not minutes. */
import { type ChildProcess, spawn } from 'node:child_process'
import { createWriteStream, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { createInterface } from 'node:readline'
import { bundle } from '../../images/bundle.ts'
import { endProcess } from '../support/process.ts'

const ENTRIES = {
  broker: new URL('broker-host.ts', import.meta.url),
  client: new URL('client-end.ts', import.meta.url),
} as const

/** Writes a script of each program into `folder`. */
export async function makeBundles(folder: string): Promise<Record<keyof typeof ENTRIES, string>> {
  const made = await Promise.all(
    Object.entries(ENTRIES).map(async ([name, entry]) => {
      const path = join(folder, `${name}.cjs`)
      writeFileSync(path, await bundle(entry.pathname, '0.0.0'))
      return [name, path] as const
    }),
  )
  return Object.fromEntries(made) as Record<keyof typeof ENTRIES, string>
}

export class Victim {
  readonly #args: readonly string[]
  readonly #env: Readonly<Record<string, string>>
  readonly #errors: string
  #child: ChildProcess | undefined
  /** what it says on stdout, line by line */
  onLine: (line: string) => void = () => {}

  /** `errors`: file that takes what it says on stderr */
  constructor(args: readonly string[], errors: string, env: Readonly<Record<string, string>> = {}) {
    this.#args = args
    this.#env = env
    this.#errors = errors
  }

  start(): this {
    const child = spawn(process.execPath, this.#args, {
      env: { PATH: process.env.PATH ?? '', ...this.#env },
      stdio: ['pipe', 'pipe', 'pipe'],
    })
    this.#child = child
    child.stdin.on('error', () => undefined)
    child.stderr.pipe(createWriteStream(this.#errors, { flags: 'a' }))
    createInterface({ input: child.stdout }).on('line', line => {
      if (this.#child === child) this.onLine(line)
    })
    return this
  }

  /** Starts it and waits for its first line. */
  async ready(): Promise<string> {
    const first = new Promise<string>(resolve => {
      this.onLine = resolve
    })
    this.start()
    return first
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  say(line: object): void {
    this.#child?.stdin?.write(`${JSON.stringify(line)}\n`)
  }

  /** kill -9; resolves once it is gone. */
  async kill(): Promise<void> {
    await endProcess(this.#child, 'SIGKILL')
  }
}
