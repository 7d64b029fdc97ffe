/**
 * Times programs as a shell starts them. A shell that lives on does it, for a process of Node's size takes longer to fork than
 * some of them run.
 */
import { mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { Child } from './child.ts'

export interface Timed {
  readonly ms: number
  readonly code: number
  readonly stdout: string
}

const quoted = (word: string) => `'${word.replaceAll("'", "'\\''")}'`

export class Stopwatch {
  readonly #folder = mkdtempSync(join(tmpdir(), 'mortar-bench-watch-'))
  readonly #shell: Child

  /** `environment`: added to this process's own, for all programs. */
  constructor(environment: Readonly<Record<string, string>> = {}) {
    const settings = Object.entries({ LC_ALL: 'C', ...environment }).map(([name, value]) => `${name}=${value}`)
    this.#shell = new Child('/usr/bin/env', [...settings, '/bin/bash', '--norc', '--noprofile'])
    // microseconds, the point in the middle taken out
    this.#shell.write(`tell() { echo "{\\"code\\":$c,\\"us\\":$((\${e/./} - \${s/./}))}"; }`)
  }

  /** Runs a program to its end. */
  async time(argv: readonly string[]): Promise<Timed> {
    const out = join(this.#folder, 'out')
    const command = argv.map(quoted).join(' ')
    this.#shell.write(`s=$EPOCHREALTIME; ${command} </dev/null >${out}; c=$?; e=$EPOCHREALTIME; tell`)
    const { code, us } = await this.#shell.read<{ code: number; us: number }>()
    return { ms: us / 1000, code, stdout: readFileSync(out, 'utf8') }
  }

  async stop(): Promise<void> {
    await this.#shell.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
