/** A client that breaks the protocol while its program runs is told so, and its program is ended. SPEC §7.1, §8, §8.2 */
import { mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import type { Guest } from '../../agent/guest/guest.ts'
import type { Runners } from '../../agent/guest/runners.ts'
import { exec } from '../../agent/handlers/exec.ts'
import { terminal } from '../../agent/handlers/terminal.ts'
import { SecureChannel } from '../../protocol/channel/secure-channel.ts'
import { decodeText } from '../../protocol/core/bytes.ts'
import { encodeCbor } from '../../protocol/core/codec.ts'
import { KeptCalls } from '../../protocol/kept/kept-calls.ts'
import type { Frame } from '../../protocol/mux/frame.ts'
import { nativeSuite } from '../../protocol/native/suite.ts'
import { serveSession } from '../../protocol/session.ts'
import { actingAsMyself } from '../support/acting-as.ts'
import { bothEnds } from '../support/bare-end.ts'
import { frame, framesUntil, record, reset } from '../support/frames.ts'
import { endRunners, newRunners } from '../support/runners.ts'
import { wallClock } from '../support/session-pair.ts'

let folder: string
let runners: Runners
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-broken-'))
  runners = newRunners(folder)
})
afterAll(async () => {
  await runners.close()
  await endRunners(folder)
  rmSync(folder, { recursive: true, force: true })
})

/** Parameters with a TERM by which the program is found. */
const PARAMS = {
  exec: (TERM: string) => ({ argv: ['sleep', '1000'], cwd: '/', env: { TERM } }),
  terminal: (term: string) => ({ cols: 80, rows: 24, term }),
} as const
let marks = 0

/** Whether a process runs that has the variable. */
function isRunning(term: string): boolean {
  return readdirSync('/proc').some(name => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/environ`, 'latin1').includes(`TERM=${term}\0`)
    } catch {
      return false
    }
  })
}

type Which = keyof typeof PARAMS
const BOTH = ['exec', 'terminal'] as const

/** The real handlers, and a client that writes its frames by hand; the call is open in stream 1. */
async function open(which: Which, more: { argv?: string[]; keep?: Uint8Array } = {}) {
  const term = `mark-${process.pid}-${++marks}`
  const guest = { runner: runners, accounts: actingAsMyself } as unknown as Guest
  const { client, agent } = bothEnds({
    suite: nativeSuite,
    handlers: { exec: call => exec(call, guest as never), terminal: call => terminal(call, guest as never) },
  })
  const faults: [string, string][] = []
  const served = serveSession({
    ...agent,
    kept: new KeptCalls(wallClock),
    onFault: (command, error) => faults.push([command, error.code]),
  })
  const channel = await SecureChannel.open(client)
  await channel.receive()
  const say = (...frames: readonly Frame[]) => channel.send(record(...frames))
  const { argv, keep } = more
  const params = { ...PARAMS[which](term), ...(argv && { argv }) }
  say(frame('open', 1, encodeCbor({ command: which, params, ...(keep && { keep }) })))
  await framesUntil(channel, 'accept')
  // a terminal's child is forked by then, and executes the shell in a moment
  await expect.poll(() => isRunning(term)).toBe(true)
  const close = async () => {
    channel.close()
    await served.catch(() => {})
  }
  return { channel, say, faults, close, ended: () => expect.poll(() => isRunning(term)).toBe(false) }
}

/** of the RESET that came last */
const codeOf = (told: readonly Frame[]) => decodeText(told.at(-1)?.body ?? new Uint8Array())
const message = (name: string, body: unknown) => frame('message', 1, encodeCbor([name, body]))

describe.each(BOTH)('%s: a client that sends', which => {
  test.each([
    ['a message that there is not', message('bogus', null)],
    ['a message with another body', which === 'exec' ? message('signal', { name: 'SIGBUS' }) : message('resize', {})],
    ['a message that is none', frame('message', 1, encodeCbor('signal'))],
    ['ACCEPT', frame('accept', 1, encodeCbor({}))],
    ['SECRET, which the command does not take', frame('secret', 1, new Uint8Array(64))],
  ])('%s is told protocol-violation, and its program ends', async (_, broken) => {
    const { channel, say, faults, ended, close } = await open(which)
    say(broken)
    const told = await framesUntil(channel, 'reset')
    expect(codeOf(told)).toBe('protocol-violation')
    expect(told.filter(({ type }) => type === 'message' || type === 'end')).toEqual([])
    expect(faults).toEqual([[which, 'protocol-violation']])
    await ended()
    await close()
  })

  test('END first in a kept call is told protocol-violation, and its program ends', async () => {
    const { channel, say, ended, close } = await open(which, { keep: new Uint8Array(16).fill(1) })
    say(frame('end', 1, new Uint8Array(8)))
    expect(codeOf(await framesUntil(channel, 'reset'))).toBe('protocol-violation')
    await ended()
    await close()
  })

  test('RESET is not told it back, and its program ends', async () => {
    const { channel, say, faults, ended, close } = await open(which)
    say(reset(1, 'going-away'))
    await ended()
    await expect.poll(() => faults).toEqual([[which, 'going-away']])
    // what the agent says of stream 1 comes before the answer
    say(frame('ping', 0, new Uint8Array()))
    const told = await framesUntil(channel, 'pong')
    expect(told.filter(({ type }) => type === 'reset' || type === 'end' || type === 'message')).toEqual([])
    await close()
  })
})

test('a client is told while its program’s output waits for it', async () => {
  const { channel, say, ended, close } = await open('exec', { argv: ['yes'] })
  say(message('bogus', null))
  expect(codeOf(await framesUntil(channel, 'reset'))).toBe('protocol-violation')
  await ended()
  await close()
})
