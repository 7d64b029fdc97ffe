/** A broker as a process of its own, with what it says on stdout and in its log. */
import { type ChildProcess, spawn } from 'node:child_process'
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { removeNetworkOfData } from '../support/networks.ts'
import { endProcess, rssOf } from '../support/process.ts'

/** launches nothing, and leaves the host's network alone but for a filter */
const NETWORK = 'network = "user"\nagent_listen = "127.0.0.1:0"\n'

export class BrokerProcess {
  readonly folder = mkdtempSync(join(tmpdir(), 'mortar-broker-process-'))
  readonly #command: readonly [string, ...string[]]
  #child: ChildProcess | undefined
  stdout = ''
  stderr = ''

  /** `command`: the program and its first arguments; the sources run by this Node unless given. */
  constructor(config: string, command?: readonly [string, ...string[]]) {
    this.#command = command ?? [process.execPath, new URL('../../broker/main.ts', import.meta.url).pathname]
    // QEMU's user must be able to enter
    chmodSync(this.folder, 0o711)
    const base = `data_dir = "${this.folder}/data"\nlibvirt_socket = "${this.folder}/no-libvirt"\n${NETWORK}`
    writeFileSync(join(this.folder, 'broker.toml'), base + config)
  }

  /** Starts it and waits for its line of readiness, which it returns. Rejects with stderr when it ends before. */
  start(): Promise<{ listening: string; agents: string; ssh: string | null; id: string }> {
    const [program, ...args] = this.#command
    const child = spawn(program, [...args, 'serve', '--config', join(this.folder, 'broker.toml')], {
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    this.#child = child
    this.stdout = ''
    return new Promise((resolve, reject) => {
      child.on('error', reject)
      child.on('close', code => reject(new Error(`ended with ${code}: ${this.stderr}`)))
      child.stderr.on('data', chunk => {
        this.stderr += chunk
      })
      child.stdout.on('data', chunk => {
        this.stdout += chunk
        if (this.stdout.includes('\n')) resolve(JSON.parse(this.stdout))
      })
    })
  }

  get pid(): number {
    return this.#child?.pid ?? 0
  }

  get rssBytes(): number {
    return rssOf(this.pid)
  }

  stop(signal: NodeJS.Signals = 'SIGTERM'): Promise<number | null> {
    return endProcess(this.#child, signal)
  }

  async remove(): Promise<void> {
    await this.stop('SIGKILL')
    await removeNetworkOfData(join(this.folder, 'data'))
    rmSync(this.folder, { recursive: true, force: true })
  }
}
