/** `mortar console`, started for a person. */
import { type ChildProcess, spawn } from 'node:child_process'
import { closeSync, openSync } from 'node:fs'
import { join } from 'node:path'
import type { Machine, Person } from './machine.ts'

export interface ConsolePage {
  /** address of the page, with the broker's in its fragment */
  readonly url: string
  readonly child: ChildProcess
  stop(): void
}

/** Serves the built page; resolves when it says where. `detached`: lives on when we end. */
export async function startConsole(
  machine: Machine,
  person: Person,
  listen: string,
  detached = false,
): Promise<ConsolePage> {
  const log = openSync(join(machine.folder, 'console.log'), 'a')
  // named on the command line too, by which the demo finds it again
  const args = ['--identity', person.identityPath, 'console', '--listen', listen, '--page', machine.binaries.console]
  const child = spawn(machine.binaries.client, args, {
    env: { PATH: process.env.PATH ?? '', ...machine.environment(person) },
    stdio: ['ignore', 'pipe', log],
    detached,
  })
  closeSync(log)
  const url = await new Promise<string>((resolve, reject) => {
    let output = ''
    child.stdout?.on('data', chunk => {
      output += chunk
      const [found] = /http:\/\/\S+/.exec(output) ?? []
      if (found && output.includes('\n')) resolve(found)
    })
    child.once('exit', code => reject(new Error(`mortar console ended with ${code}: ${output}`)))
  })
  return { url, child, stop: () => child.kill() }
}
