/** The peer that people would use instead: `ssh host cat` over loopback, with a server, keys and port of the bench's own. */
import { execFileSync, spawn } from 'node:child_process'
import { existsSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import type { AddressInfo } from 'node:net'
import { connect, createServer } from 'node:net'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { Child } from './child.ts'
import { CIPHER, type SshServer, sshArguments } from './ssh-client.ts'

const SSHD = '/usr/sbin/sshd'

/** Why the peer cannot run here, or null. */
export function sshMissing(): string | null {
  if (!existsSync(SSHD)) return `${SSHD} is not installed`
  return process.getuid?.() === 0 ? null : 'needs root'
}

async function freePort(): Promise<number> {
  const server = createServer()
  await new Promise<void>(resolve => server.listen(0, '127.0.0.1', resolve))
  const { port } = server.address() as AddressInfo
  await new Promise(resolve => server.close(resolve))
  return port
}

function listens(port: number): Promise<boolean> {
  return new Promise(resolve => {
    const socket = connect(port, '127.0.0.1')
    socket.once('error', () => resolve(false))
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
  })
}

export class SshPeer {
  readonly #folder: string
  readonly #server: Child
  readonly #port: number

  private constructor(folder: string, server: Child, port: number) {
    this.#folder = folder
    this.#server = server
    this.#port = port
  }

  /** `settings`: added to the server's own. */
  static async start(settings: Readonly<Record<string, string>> = {}): Promise<SshPeer> {
    const folder = mkdtempSync(join(tmpdir(), 'mortar-bench-ssh-'))
    for (const name of ['host', 'user']) {
      execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-f', join(folder, name)])
    }
    const port = await freePort()
    // where sshd wants its empty directory
    mkdirSync('/run/sshd', { recursive: true, mode: 0o755 })
    const config = {
      ListenAddress: `127.0.0.1:${port}`,
      HostKey: join(folder, 'host'),
      AuthorizedKeysFile: join(folder, 'user.pub'),
      PidFile: 'none',
      UsePAM: 'no',
      StrictModes: 'no',
      PermitRootLogin: 'prohibit-password',
      PasswordAuthentication: 'no',
      Ciphers: CIPHER,
      ...settings,
    }
    const path = join(folder, 'sshd_config')
    writeFileSync(
      path,
      Object.entries(config)
        .map(pair => `${pair.join(' ')}\n`)
        .join(''),
    )
    const peer = new SshPeer(folder, new Child(SSHD, ['-D', '-e', '-q', '-f', path]), port)
    for (let attempt = 0; attempt < 50 && !(await listens(port)); attempt++) {
      await new Promise(resolve => setTimeout(resolve, 100))
    }
    await peer.cat(1)
    return peer
  }

  get server(): SshServer {
    return { folder: this.#folder, port: this.#port, user: userInfo().username }
  }

  /** Seconds that `ssh host` takes for `bytes` bytes that a program there writes, connecting included. */
  cat(bytes: number): Promise<number> {
    const args = [...sshArguments(this.server), `head -c ${bytes} /dev/zero | cat`]
    return new Promise((resolve, reject) => {
      const started = performance.now()
      const child = spawn('ssh', args, { stdio: ['ignore', 'ignore', 'inherit'] })
      child.on('error', reject)
      child.on('close', code => {
        if (code === 0) resolve((performance.now() - started) / 1000)
        else reject(new Error(`ssh ended with ${code}`))
      })
    })
  }

  async stop(): Promise<void> {
    await this.#server.stop()
    rmSync(this.#folder, { recursive: true, force: true })
  }
}
