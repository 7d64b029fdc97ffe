/** A rig whose broker is a process of its own, so that its memory and its speed under load are its alone; and who loads it. */
import { type ChildProcess, fork } from 'node:child_process'
import { once } from 'node:events'
import type { Config } from '../../broker/config.ts'
import type { Broker } from '../../broker/serve.ts'
import { NODE_OPTIONS } from '../../images/node-options.ts'
import { Rig } from '../broker/rig.ts'
import { endProcess, rssOf } from '../support/process.ts'
import type { Load } from './load.ts'

/** as the built program runs */
const FLAGS = [...NODE_OPTIONS['mortar-broker'], '--no-warnings']

export class RigApart extends Rig {
  #child: ChildProcess | undefined

  static async begin(config: Partial<Config> = {}): Promise<RigApart> {
    const rig = new RigApart({ sshListen: { host: '127.0.0.1', port: 0 }, ...config })
    await rig.startBroker()
    await rig.importBrick('stone')
    return rig
  }

  protected override async launchBroker(config: Config): Promise<Broker> {
    const child = fork(new URL('./broker-child.ts', import.meta.url), [], {
      execArgv: FLAGS,
      serialization: 'advanced',
      stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
    })
    this.#child = child
    child.send(config)
    const [said] = (await Promise.race([
      once(child, 'message'),
      once(child, 'exit').then(([code]) => Promise.reject(new Error(`the broker ended with ${code}`))),
    ])) as [Omit<Broker, 'close'>]
    return {
      ...said,
      async close() {
        await endProcess(child, 'SIGTERM')
      },
    }
  }

  /** resident memory of the broker */
  get rssBytes(): number {
    return rssOf(this.#child?.pid ?? 0)
  }

  get alive(): boolean {
    return this.#child?.exitCode === null && this.#child.signalCode === null
  }
}

/** Starts a load and resolves once it is at its height. `end()` takes it away and returns how often it got what it wanted. */
export async function startLoad(load: Load): Promise<{ counts(): Promise<Counts>; end(): Promise<Counts> }> {
  const child = fork(new URL('./load-child.ts', import.meta.url), [], {
    execArgv: ['--no-warnings'],
    serialization: 'advanced',
    stdio: ['ignore', 'inherit', 'inherit', 'ipc'],
  })
  child.send(load)
  const ask = async (): Promise<Counts> => {
    const answered = once(child, 'message') as Promise<[Counts]>
    child.send('counts')
    return (await answered)[0]
  }
  await once(child, 'message')
  return {
    counts: ask,
    async end() {
      const counts = await ask()
      await endProcess(child, 'SIGKILL')
      return counts
    },
  }
}

export interface Counts {
  /** connections that are open now */
  readonly open: number
  /** requests answered with what was asked for, and refused */
  readonly answered: number
  readonly refused: number
}
