/** Programs at their runners: they outlive the agent whole, end with the grant whole, and hang nobody. SPEC §8.2, §9.2, §9.6 */
import { readdirSync, readFileSync } from 'node:fs'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { controlGroups } from '../../agent/guest/control-group.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { grantRevoke } from '../../protocol/commands/grants.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import { KeptClientCall } from '../../protocol/kept/kept-client-call.ts'
import { nativeSuite as suite } from '../../protocol/native/suite.ts'
import { wallClock } from '../support/session-pair.ts'
import { granteeOf } from './agent-people.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

const KILLS = 4

let broker: StandInBroker
let agent: AgentProcess

beforeAll(async () => {
  broker = await StandInBroker.start()
  agent = new AgentProcess(broker).start()
  await broker.enrolments.next(() => true)
})
afterAll(async () => {
  await agent?.remove()
  broker?.close()
})

const agentDh = () => broker.enrolments.all.at(-1)?.agentDh

/** Processes, and not those that wait to be reaped, whose command line holds the mark. */
function count(mark: string): number {
  return readdirSync('/proc').filter(name => {
    try {
      return /^\d+$/.test(name) && readFileSync(`/proc/${name}/cmdline`, 'latin1').includes(mark)
    } catch {
      return false
    }
  }).length
}

/** Runs a program to its end under a grant, or the owner's rights. */
async function run(argv: string[], grantee?: ReturnType<typeof granteeOf>) {
  const session = await broker.session(agentDh(), grantee)
  try {
    const call = await session.open(exec, { argv })
    call.post('eof', {})
    let out = ''
    for await (const item of call.received()) if (item.type === 'data') out += decodeText(item.bytes)
    return out
  } finally {
    session.close()
  }
}

test('an agent that is killed again and again amid input and output loses no byte and no exit status', async () => {
  const lost = { is: false }
  const kept = new KeptClientCall({
    command: exec,
    params: { argv: ['sh', '-c', 'cat; exit 9'] },
    id: suite.randomBytes(16),
    clock: wallClock,
    onLost() {
      lost.is = true
    },
    onOver() {},
  })
  await (await broker.session(agentDh())).attach(kept)
  const call = await kept.call
  const sent = Array.from({ length: 40_000 }, (_, i) => `${i}\n`)
  const perPart = sent.length / (KILLS + 1)
  /** a part is being written when the agent is killed, and one is left for the end */
  let writing = Promise.resolve()
  const writePart = (part: number) => {
    writing = writing.then(async () => {
      for (let from = part * perPart; from < (part + 1) * perPart; from += 500) {
        await call.write(encodeText(sent.slice(from, from + 500).join('')))
        await delay(5)
      }
    })
  }
  let out = ''
  const exits: unknown[] = []
  const reading = (async () => {
    for await (const item of call.received()) {
      if (item.type === 'message') exits.push(item.body)
      else out += decodeText(item.bytes)
    }
  })()
  for (let kill = 0; kill < KILLS; kill++) {
    writePart(kill)
    await delay(Math.random() * 300)
    const seen = broker.enrolments.all.length
    await agent.stop('SIGKILL')
    agent.start()
    await broker.enrolments.next(() => true, seen)
    await expect.poll(() => lost.is).toBe(true)
    lost.is = false
    await (await broker.session(agentDh())).attach(kept)
  }
  writePart(KILLS)
  await writing
  call.post('eof', {})
  await reading
  expect(out === sent.join('')).toBe(true)
  expect(exits).toEqual([{ code: 9, signal: null }])
}, 120_000)

test('output that nobody had fetched is lost with its runner, and its client is told so', async () => {
  const runner = Number(await run(['sh', '-c', 'echo $PPID']))
  const kept = new KeptClientCall({
    command: exec,
    params: { argv: ['sh', '-c', 'echo begun; sleep 0.3; echo more'] },
    id: suite.randomBytes(16),
    clock: wallClock,
    onLost() {},
    onOver() {},
  })
  const session = await broker.session(agentDh())
  await session.attach(kept)
  await kept.call
  broker.cut()
  // it has ended by then
  await delay(1_000)
  process.kill(runner, 'SIGKILL')
  await delay(300)
  await expect((await broker.session(agentDh())).attach(kept)).rejects.toMatchObject({ code: 'runner-lost' })
}, 20_000)

test.skipIf(!controlGroups())(
  'a revocation ends what a grantee left behind in every way, before it is answered, though its runner hangs',
  async () => {
    const grantee = granteeOf(broker.launch, ['exec'], { serial: 1 })
    const mark = `76${process.pid}`
    await run(
      [
        'sh',
        '-c',
        `nohup sleep ${mark} >/dev/null 2>&1 & setsid sleep ${mark} & (setsid sh -c '(sleep ${mark} &) &' &)
         loop() { while :; do setsid sleep ${mark} & sleep 0.05; done; }; loop >/dev/null 2>&1 & sleep 0.3`,
      ],
      grantee,
    )
    expect(count(mark)).toBeGreaterThan(3)
    // it does not answer any more
    const session = await broker.session(agentDh(), grantee)
    const hanging = session.open(exec, { argv: ['sh', '-c', 'kill -STOP $PPID; sleep 100'] })
    hanging.catch(() => undefined)
    await delay(500)
    const owner = await broker.session(agentDh())
    const { ready } = await owner.open(grantRevoke, { grantee: grantee.sign })
    expect(ready.programsEnded).toBe(true)
    expect(count(mark)).toBe(0)
    owner.close()
  },
)

test.skipIf(!controlGroups())(
  'what a grantee left behind ends with the grant, though nobody is connected',
  async () => {
    const mark = `77${process.pid}`
    const grantee = granteeOf(broker.launch, ['exec'], { number: 2, seconds: 10 })
    await run(['sh', '-c', `setsid sleep ${mark} >/dev/null 2>&1 &`], grantee)
    expect(count(mark)).toBe(1)
    await expect.poll(() => count(mark), { timeout: 30_000 }).toBe(0)
  },
)

test('a file that is swapped for a FIFO hangs nobody but its own program', async () => {
  const folder = `/tmp/swap-${process.pid}`
  const swap = `mkdir ${folder}; cd ${folder}; mkfifo f; cp /bin/true t; while [ -e f ]; do ln -sf f x; ln -sf t x; done`
  const session = await broker.session(agentDh())
  const swapping = await session.open(exec, { argv: ['sh', '-c', swap] })
  await expect.poll(() => readdirSync('/tmp').includes(`swap-${process.pid}`)).toBe(true)
  await delay(300)
  for (let i = 0; i < 100; i++) {
    const opened = await session.open(exec, { argv: [`${folder}/x`], cwd: folder }).catch((error: Error) => error)
    if (opened instanceof Error) expect(opened).toMatchObject({ code: expect.stringMatching(/^exec-/) })
    else opened.reset('going-away')
  }
  swapping.reset('going-away')
  expect(await run(['echo', 'on'])).toBe('on\n')
  await run(['rm', '-r', folder])
  session.close()
})
