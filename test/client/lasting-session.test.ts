/** A session that outlives its socket, over real sessions with an agent in memory; its time and its pauses are the test's. */
import { expect, test } from 'vitest'
import type { Host } from '../../client/host/host.ts'
import { openLasting } from '../../client/sessions/lasting-session.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { exec } from '../../protocol/commands/exec.ts'
import { type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { Agent, echo, params, soon } from '../support/kept-agent.ts'

interface Try {
  /** as many as came before */
  readonly number: number
  readonly agent: Agent
}

/** What `connect` does instead of opening a session; the first always opens one. */
type Connect = (scene: Try) => Promise<ClientSession>

const open: Connect = ({ agent }) => agent.session()

/** A lasting session in which a program runs. `chance`: the byte that jitter is made of. */
async function scene(connect: Connect, { chance = 0 } = {}) {
  const agent = new Agent({ exec: echo })
  const time = { ms: 0 }
  const pauses: number[] = []
  const opened: ClientSession[] = []
  // an id is random, jitter the test's
  const randomBytes = (count: number) =>
    count === 16 ? nobleSuite.randomBytes(16) : new Uint8Array(count).fill(chance)
  const suite = { ...nobleSuite, randomBytes }
  const clock = { now: () => time.ms, after: () => () => undefined }
  let number = 0
  const session = await openLasting({
    host: { suite, clock } as unknown as Host,
    async connect() {
      const made = await (number === 0 ? agent.session() : connect({ number, agent }))
      number++
      opened.push(made)
      return made
    },
    async sleep(ms) {
      pauses.push(ms)
      time.ms += ms
      await soon(0)
    },
  })
  const call = await session.open(exec, params)
  return { agent, session, call, time, pauses, opened }
}

/** Fails with the codes one after another, then opens sessions. */
function failing(...codes: ErrorCode[]): Connect {
  return async scene => {
    const code = codes.shift()
    if (code) throw new MortarError(code)
    return open(scene)
  }
}

async function echoes(call: Awaited<ReturnType<typeof scene>>['call']): Promise<void> {
  await call.write(Uint8Array.of(7))
  expect(await call.received().next()).toMatchObject({ value: { bytes: Uint8Array.of(7) } })
}

test.each<ErrorCode>(['broker-unreachable', 'limit-exceeded', 'rate-limited', 'handshake', 'grant-invalid'])(
  '%s while it connects again passes',
  async code => {
    const { agent, call, opened, session } = await scene(failing(code, code))
    agent.cut()
    await echoes(call)
    expect(opened).toHaveLength(2)
    session.close()
  },
)

test.each<ErrorCode>(['agent-key-mismatch', 'owner-mismatch', 'grant-revoked', 'vm-state'])(
  '%s while it connects again does not pass',
  async code => {
    const { agent, call, session } = await scene(failing(code))
    agent.cut()
    await expect(session.closed).resolves.toMatchObject({ code })
    await expect(call.received().next()).rejects.toMatchObject({ code })
  },
)

test('a grant that is not taken is tried again only until the agent has noticed which sessions are dead', async () => {
  const { agent, session, time } = await scene(failing(...new Array<ErrorCode>(100).fill('grant-invalid')))
  agent.cut()
  await expect(session.closed).resolves.toMatchObject({ code: 'grant-invalid' })
  expect(time.ms).toBeGreaterThanOrEqual(90_000)
  expect(time.ms).toBeLessThan(96_000)
})

test('tries end with the hour', async () => {
  const { agent, session, time } = await scene(failing(...new Array<ErrorCode>(1_000).fill('vm-unreachable')))
  agent.cut()
  await expect(session.closed).resolves.toMatchObject({ code: 'vm-unreachable' })
  expect(time.ms).toBeGreaterThan(LIMITS.keptMs)
  expect(time.ms).toBeLessThan(LIMITS.keptMs + 6_000)
})

test('pauses grow, and more where chance has it', async () => {
  for (const [chance, factor] of [
    [0, 1],
    [128, 1.25],
  ] as const) {
    const { agent, call, pauses, session } = await scene(failing(...new Array<ErrorCode>(6).fill('vm-unreachable')), {
      chance,
    })
    agent.cut()
    await echoes(call)
    expect(pauses).toEqual([250, 500, 1_000, 2_000, 4_000, 5_000, 5_000].map(ms => ms * factor))
    session.close()
  }
})

/** Sessions that end so many ms after they began. */
const living = (ms: number, time: () => { ms: number }): Connect => {
  return async ({ agent }) => {
    const session = await agent.session()
    setTimeout(() => {
      time().ms += ms
      agent.cut()
    }, 1)
    return session
  }
}

test('sessions that end at once get longer pauses, and no hour of their own', async () => {
  let time = { ms: 0 }
  const lives = living(1, () => time)
  const { agent, pauses, session, ...short } = await scene(async tried => {
    // most of the hour passes while one is being opened
    if (tried.number === 7) time.ms += LIMITS.keptMs - 60_000
    return lives(tried)
  })
  time = short.time
  agent.cut()
  await session.closed
  expect(pauses.slice(0, 8)).toEqual([250, 500, 1_000, 2_000, 4_000, 5_000, 5_000, 5_000])
  expect(time.ms).toBeGreaterThan(LIMITS.keptMs)
  expect(time.ms).toBeLessThan(LIMITS.keptMs + 6_000)
})

test('the loss of a session that held is a new one', async () => {
  let time = { ms: 0 }
  const long = await scene(living(10_000, () => time))
  time = long.time
  long.agent.cut()
  await expect.poll(() => long.pauses.length).toBeGreaterThan(3)
  expect(long.pauses.slice(0, 4)).toEqual([250, 250, 250, 250])
  time.ms += 2 * LIMITS.keptMs
  const before = long.pauses.length
  await expect.poll(() => long.pauses.length).toBeGreaterThan(before + 1)
  long.session.close()
})

test('a program that begins while it connects again begins in the next session', async () => {
  const { agent, session, opened } = await scene(open)
  agent.cut()
  await soon(0)
  const second = await session.open(exec, params)
  expect(opened).toHaveLength(2)
  await echoes(second)
  session.close()
})

test('close() ends what is being opened, whenever it comes', async () => {
  for (let turns = 0; turns < 12; turns++) {
    let close = () => {}
    const { agent, opened, session } = await scene(async ({ agent }) => {
      const made = await agent.session()
      void (async () => {
        for (let i = 0; i < turns; i++) await null
        close()
      })()
      return made
    })
    close = () => session.close()
    agent.cut()
    await expect(session.closed, `after ${turns} turns`).resolves.toBeUndefined()
    expect(opened).toHaveLength(2)
    await expect(opened[1]?.closed).resolves.toBeUndefined()
  }
})
