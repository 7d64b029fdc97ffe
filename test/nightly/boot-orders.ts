/** A14: the model of boots, as the ring runs it, one event deeper. */
import { spawn } from 'node:child_process'
import { text } from 'node:stream/consumers'
import type { Outcome } from './outcome.ts'

const DEPTH = 6
/** to try it out */
const SHALLOW = 4

export async function runBootOrders(scale: number): Promise<Outcome> {
  const startMs = performance.now()
  const depth = scale < 1 ? SHALLOW : DEPTH
  const args = [new URL('../main.ts', import.meta.url).pathname, '--ring', 'unit', 'boot-model']
  const env = { ...process.env, MORTAR_BOOT_DEPTH: `${depth}` }
  const ring = spawn(process.execPath, args, { env, stdio: ['ignore', 'pipe', 'inherit'] })
  const said = await text(ring.stdout)
  const told = /^boot model: depth (\d+), (.*), (.*)$/m.exec(said)
  const passed = /^1 passed, 0 failed$/m.test(said)
  return {
    id: 'A14',
    what: 'orders of boots, losses, thefts and contacts, against their model',
    asked: `all of ${DEPTH} events, nobody met unnoticed but where nobody could know`,
    done: `all of ${told?.[1] ?? 0} events: ${told?.[2] ?? 'no worlds'}`,
    held: passed && told?.[1] === `${depth}`,
    seconds: (performance.now() - startMs) / 1_000,
    note: passed ? (told?.[3] ?? '') : (/^ +✗.*\n +(.*)/m.exec(said)?.[1] ?? said.slice(-300)),
  }
}
