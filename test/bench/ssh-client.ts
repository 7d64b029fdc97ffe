/** Stock `ssh` to one server, with a key of the bench's own: a connection for each command, or one control connection for all. */
import { existsSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as delay } from 'node:timers/promises'
import { Child } from './child.ts'
import type { Way } from './exec-rounds.ts'
import type { Stopwatch } from './stopwatch.ts'

export const CIPHER = 'chacha20-poly1305@openssh.com'

export interface SshServer {
  /** where the key `user` lies, and sockets may */
  readonly folder: string
  readonly port: number
  readonly user: string
}

/** Arguments of ssh that reach the server and ask nothing. */
export function sshArguments({ folder, port, user }: SshServer, more: readonly string[] = []): string[] {
  const options = {
    UserKnownHostsFile: '/dev/null',
    StrictHostKeyChecking: 'no',
    IdentitiesOnly: 'yes',
    LogLevel: 'ERROR',
    BatchMode: 'yes',
  }
  return [
    ...['-F', 'none', '-c', CIPHER, '-p', String(port), '-i', join(folder, 'user')],
    ...Object.entries(options).flatMap(pair => ['-o', pair.join('=')]),
    ...more,
    `${user}@127.0.0.1`,
  ]
}

/** A connection for each command. */
export function coldSsh(watch: Stopwatch, server: SshServer, perRound: number): Way {
  const run = (argv: readonly string[]) => watch.time(['ssh', ...sshArguments(server), ...argv])
  return { name: 'ssh, cold', perRound, once: async () => (await run(['true'])).ms, run }
}

/** One connection that stays open, over which each command goes. */
export class ControlledSsh {
  readonly #master: Child
  readonly way: Way

  private constructor(master: Child, way: Way) {
    this.#master = master
    this.way = way
  }

  static async start(watch: Stopwatch, server: SshServer, perRound: number): Promise<ControlledSsh> {
    const socket = join(server.folder, 'control')
    const master = new Child('ssh', sshArguments(server, ['-M', '-N', '-S', socket]))
    const over = (argv: readonly string[]) => watch.time(['ssh', ...sshArguments(server, ['-S', socket]), ...argv])
    for (let tries = 0; ; tries++) {
      if (existsSync(socket)) break
      if (tries === 100) throw new Error('ssh made no control connection')
      await delay(200)
    }
    const once = async () => (await over(['true'])).ms
    return new ControlledSsh(master, { name: 'ssh, control connection', perRound, once, run: over })
  }

  stop(): Promise<void> {
    return this.#master.stop()
  }
}
