/** Kept calls at a real agent: its programs wait for their client, and for nobody whose grant is gone. SPEC §8.2 */
import { readdirSync, readFileSync } from 'node:fs'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Host } from '../../client/host/host.ts'
import { endDetached, listDetached, readDetached, startDetached } from '../../client/programs/detached.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { wallClock } from '../support/session-pair.ts'
import { granteeOf } from './agent-people.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

let broker: StandInBroker
let agent: AgentProcess
let agentDh: Uint8Array

beforeAll(async () => {
  broker = await StandInBroker.start()
  agent = new AgentProcess(broker).start()
  agentDh = (await broker.enrolments.next(() => true)).agentDh
})
afterAll(async () => {
  await agent?.remove()
  broker?.close()
})

const soon = (ms: number) => new Promise(resolve => setTimeout(resolve, ms))

/** Whether a process is there and not merely waiting to be reaped. */
function isRunning(pid: number): boolean {
  try {
    return !/\) Z /.test(readFileSync(`/proc/${pid}/stat`, 'utf8'))
  } catch {
    return false
  }
}

/** Whether a process has that command line. */
function isThere(commandLine: string): boolean {
  return readdirSync('/proc').some(name => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'latin1').startsWith(commandLine)
    } catch {
      return false
    }
  })
}

const keptExec = (script: string) =>
  new KeptClientCall({
    command: exec,
    params: { argv: ['sh', '-c', script] },
    id: suite.randomBytes(16),
    clock: wallClock,
    onLost() {},
    onOver() {},
  })

test('what a program writes while nobody is there is read by who comes back, and so is what was typed', async () => {
  const kept = keptExec('echo one; sleep 0.3; echo two; read line; echo "$line"; exit 4')
  await (await broker.session()).attach(kept)
  const call = await kept.call
  broker.cut()
  await soon(20)
  await call.write(encodeText('typed\n'))
  await soon(600)
  await (await broker.session(agentDh)).attach(kept)
  let out = ''
  const exits: unknown[] = []
  for await (const item of call.received()) {
    if (item.type === 'message') exits.push(item.body)
    else out += decodeText(item.bytes)
  }
  expect([out, exits]).toEqual(['one\ntwo\ntyped\n', [{ code: 4, signal: null }]])
})

test('a reset ends the program, a lost socket does not', async () => {
  const kept = keptExec('trap "" HUP; echo $$; sleep 100')
  await (await broker.session(agentDh)).attach(kept)
  const call = await kept.call
  const { value } = await call.received().next()
  const pid = value?.type === 'data' ? Number(decodeText(value.bytes)) : 0
  broker.cut()
  await soon(300)
  expect(isRunning(pid)).toBe(true)
  await (await broker.session(agentDh)).attach(kept)
  call.reset('going-away')
  await expect.poll(() => isRunning(pid)).toBe(false)
})

test('a grantee whose grant is taken back while away loses the program, and cannot come for it', async () => {
  const granted = (serial: number, after?: Uint8Array) =>
    granteeOf(broker.launch, ['exec'], { serial, ...(after && { after }) })
  const grantee = granted(1).sign
  const kept = keptExec('exec sleep 100')
  await (await broker.session(agentDh, granted(1))).attach(kept)
  broker.cut()
  await soon(100)
  // the owner cannot take what is another's
  const owner = await broker.session(agentDh)
  await expect(owner.attach(kept)).rejects.toMatchObject({ code: 'call-unknown' })
  const { mark } = (await owner.open(grantRevoke, { grantee })).ready
  const again = await broker.session(agentDh, granted(2, mark))
  await expect(again.attach(kept)).rejects.toMatchObject({ code: 'call-unknown' })
})

test.each(['SIGKILL', 'SIGTERM'] as const)(
  'a program and its client go on where they were after %s of the agent',
  async how => {
    const kept = keptExec('echo one; read line; echo "$line"; sleep 0.5; echo two; exit 3')
    await (await broker.session(agentDh)).attach(kept)
    const call = await kept.call
    const received = call.received()
    const { value } = await received.next()
    expect(value).toMatchObject({ type: 'data' })
    await agent.stop(how)
    const seen = broker.enrolments.all.length
    agent.start()
    await call.write(encodeText('typed\n'))
    agentDh = (await broker.enrolments.next(() => true, seen)).agentDh
    await (await broker.session(agentDh)).attach(kept)
    let out = ''
    const exits: unknown[] = []
    for await (const item of received) {
      if (item.type === 'message') exits.push(item.body)
      else out += decodeText(item.bytes)
    }
    expect([out, exits]).toEqual(['typed\ntwo\n', [{ code: 3, signal: null }]])
  },
)

test('a detached program is listed, read from the start by whoever comes, and forgotten when its end was fetched', async () => {
  const session = await broker.session(agentDh)
  const host = { suite, clock: wallClock } as Host
  const script = 'cat; echo one; (sleep 3.14159; echo later) & exit 6'
  const id = await startDetached(session, host, { argv: ['sh', '-c', script] })
  session.close()
  const other = await broker.session(agentDh)
  const listed = async () => (await listDetached(other)).programs.filter(program => program.id.join() === id.join())
  await expect.poll(() => isThere('sleep\x003.14159')).toBe(true)
  await expect.poll(listed).toEqual([{ id, argv: ['sh', '-c', script], detached: true, over: true }])
  await expect.poll(() => isThere('sleep\x003.14159')).toBe(false)
  await soon(500)
  let out = ''
  const exit = await readDetached(other, host, id, {
    onOutput(bytes) {
      out += decodeText(bytes)
    },
    onGap: () => {},
  })
  expect([out, exit]).toEqual(['one\nlater\n', { code: 6, signal: null }])
  expect(await listed()).toEqual([])
  await expect(endDetached(other, host, id)).rejects.toMatchObject({ code: 'call-unknown' })
})

test('of a detached program that writes on and on the oldest is gone, which is said, and it can be ended', async () => {
  const session = await broker.session(agentDh)
  const host = { suite, clock: wallClock } as Host
  const id = await startDetached(session, host, { argv: ['sh', '-c', 'seq 1 1500000; echo $$; exec sleep 1234567'] })
  session.close()
  await expect.poll(() => isThere('sleep\x001234567')).toBe(true)
  const other = await broker.session(agentDh)
  let [gap, out] = [0, '']
  const reading = readDetached(other, host, id, {
    onOutput(bytes) {
      out += decodeText(bytes)
    },
    onGap(byteCount) {
      gap += byteCount
    },
  })
  reading.catch(() => undefined)
  await expect.poll(() => /\n1500000\n(\d+)\n$/.test(out)).toBe(true)
  expect(gap + out.length).toBeGreaterThan(10_000_000)
  expect(gap).toBeGreaterThan(1_000_000)
  const pid = Number(out.trim().split('\n').at(-1))
  expect(isRunning(pid)).toBe(true)
  await endDetached(other, host, id)
  await expect(reading).rejects.toMatchObject({ code: 'going-away' })
  await expect.poll(() => isRunning(pid)).toBe(false)
})
