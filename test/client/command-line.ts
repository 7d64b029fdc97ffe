/** The command `mortar` as a process without a terminal, in a folder of its own, against a small broker or none. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach } from 'vitest'
import { type Script, smallBroker } from './small-broker.ts'

const MAIN = join(import.meta.dirname, '../../client/cli/main.ts')

/** For one test file, which it gives time and cleans up after. */
export function commandLine() {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-cli-'))
  const environment = { PATH: process.env.PATH ?? '', HOME: '/nonexistent', MORTAR_BROKER: 'http://127.0.0.1:9' }
  let close = () => {}
  afterEach(() => close())
  afterAll(() => rmSync(folder, { recursive: true }))
  return {
    /** where the identity lies */
    folder,

    /** Runs it to its end; not in this process, so that the small broker can answer. */
    async mortar(args: readonly string[], more: Record<string, string> = {}, input = '') {
      const env = { ...environment, MORTAR_IDENTITY: join(folder, 'identity'), ...more }
      const child = spawn(process.execPath, [MAIN, ...args], { env })
      const output = { stdout: '', stderr: '' }
      child.stdout.on('data', chunk => {
        output.stdout += chunk
      })
      child.stderr.on('data', chunk => {
        output.stderr += chunk
      })
      child.stdin.end(input)
      const [code] = await once(child, 'close')
      return { code, ...output }
    },

    /** Starts a broker in place of the one before; the result leads there. */
    async against(script: Script) {
      close()
      const broker = await smallBroker(script)
      close = broker.close
      return { MORTAR_BROKER: broker.url }
    },

    /** Ends the broker. */
    close: () => close(),
  }
}
