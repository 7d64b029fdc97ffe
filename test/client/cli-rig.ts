/** `mortar` as a program, with an identity, against a small broker whose one VM this machine plays. */
import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll } from 'vitest'
import { signingPublicKey } from '../../protocol/core/signing.ts'
import { smallAgent } from './small-agent.ts'
import { smallBroker } from './small-broker.ts'

export const MAIN = join(import.meta.dirname, '../../client/cli/main.ts')
const seed = new Uint8Array(32).fill(42)
export let folder = ''
let close = () => {}
export let agent: ReturnType<typeof smallAgent>
export let env: Record<string, string> = {}

beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-session-'))
  agent = smallAgent(folder, () => signingPublicKey(seed), userInfo().username)
  const broker = await smallBroker(agent.script, seed, {
    otherwise: agent.routeVm,
    sockets: agent.sockets,
    launcherKey: agent.launcherKey,
  })
  close = () => {
    for (const socket of agent.sockets.clients) socket.terminate()
    broker.close()
  }
  const path = `${join(import.meta.dirname, '../../node_modules/.bin')}:${process.env.PATH}`
  env = { PATH: path, HOME: folder, MORTAR_BROKER: broker.url, MORTAR_IDENTITY: join(folder, 'mine', 'identity') }
  await mortar(['identity', 'create', '--no-passphrase'])
})
afterAll(() => {
  close()
  rmSync(folder, { recursive: true })
})

export async function outcomeOf(child: ChildProcess) {
  const parts = { stdout: [] as Buffer[], stderr: [] as Buffer[] }
  child.stdout?.on('data', chunk => parts.stdout.push(chunk))
  child.stderr?.on('data', chunk => parts.stderr.push(chunk))
  const [code] = await once(child, 'close')
  return { code, bytes: Buffer.concat(parts.stdout), stderr: Buffer.concat(parts.stderr).toString() }
}
export async function mortar(args: readonly string[], input: string | Buffer = '') {
  const child = spawn(process.execPath, [MAIN, ...args], { env })
  child.stdin.on('error', () => {})
  child.stdin.end(input)
  const { code, bytes, stderr } = await outcomeOf(child)
  return { code, stdout: bytes.toString(), bytes, stderr }
}
