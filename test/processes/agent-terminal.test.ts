/** Terminals at a real agent: keys, sizes, floods and hang-ups. SPEC §9.3 */
import { readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { terminal } from '../../protocol/commands/terminal.ts'
import { encodeText } from '../../protocol/core/bytes.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

let broker: StandInBroker
let agent: AgentProcess
let session: ClientSession

beforeAll(async () => {
  broker = await StandInBroker.start()
  agent = new AgentProcess(broker).start()
  session = await broker.session()
})
afterAll(async () => {
  session?.close()
  await agent?.remove()
  broker?.close()
})

/** A terminal whose screen collects until the end. */
async function open(size = { cols: 80, rows: 24 }) {
  const call = await session.open(terminal, { ...size, term: 'dumb' })
  const screen = { text: '', exits: [] as unknown[] }
  const ended = (async () => {
    for await (const item of call.received()) {
      if (item.type === 'message') screen.exits.push(item.body)
      else if (item.type === 'data') screen.text += Buffer.from(item.bytes).toString()
    }
  })()
  const type = (keys: string) => call.write(encodeText(keys))
  return { call, screen, ended, type }
}

test('keys go in, output comes out, and the exit code ends it', async () => {
  const { screen, ended, type } = await open()
  await type('echo $((6 * 7)) $TERM\n')
  await type('exit 5\n')
  await ended
  expect(screen.text).toMatch(/^42 dumb\r?$/m)
  expect(screen.exits).toEqual([{ code: 5, signal: null }])
})

test('a resize reaches the terminal before the keys typed after it', async () => {
  const { call, screen, ended, type } = await open()
  await type('stty size; echo first-done\n')
  await expect.poll(() => screen.text).toMatch(/^first-done/m)
  call.post('resize', { cols: 132, rows: 50 })
  await type('stty size; exit\n')
  await ended
  expect(screen.text).toMatch(/^24 80\r?$/m)
  expect(screen.text).toMatch(/^50 132\r?$/m)
})

test('what is printed just before the exit is not lost', async () => {
  for (let round = 0; round < 5; round++) {
    const { screen, ended, type } = await open()
    await type('exec sh -c "seq 1 20000; printf END"\n')
    await ended
    expect(screen.text.endsWith('20000\r\nEND')).toBe(true)
  }
})

test('an interrupt key reaches the program', async () => {
  const { screen, ended, type } = await open()
  await type('sleep 1000\n')
  await new Promise(resolve => setTimeout(resolve, 500))
  await type('\u0003')
  await type('echo alive $?; exit\n')
  await ended
  expect(screen.text).toMatch(/^alive 130/m)
})

test('a client that goes away hangs the shell up', async () => {
  const { call, screen, ended, type } = await open()
  await type('echo pid=$$\n')
  await expect.poll(() => screen.text).toMatch(/^pid=\d+\r?$/m)
  const pid = /^pid=(\d+)/m.exec(screen.text)?.[1]
  ended.catch(() => {})
  call.reset('going-away')
  await expect.poll(() => isShell(pid)).toBe(false)
})

function isShell(pid: string | undefined): boolean {
  try {
    return !/State:\s+Z/.test(readFileSync(`/proc/${pid}/status`, 'utf8'))
  } catch {
    return false
  }
}
