/** Sessions at a real agent: what grantees may have of them, and what is always the owner's. SPEC §4 */
import { afterEach, beforeEach, expect, test } from 'vitest'
import { info } from '../../protocol/commands/info.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { granteeOf } from './agent-people.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

let broker: StandInBroker
let agent: AgentProcess
let agentDh: Uint8Array

beforeEach(async () => {
  broker = await StandInBroker.start()
  agent = new AgentProcess(broker).start()
  agentDh = (await broker.enrolments.next(() => true)).agentDh
})
afterEach(async () => {
  await agent.remove()
  broker.close()
})

const newGrantee = (number: number) => granteeOf(broker.launch, ['info'], { number })

const works = async (session: ClientSession) => {
  const { ready, received } = await session.open(info, {})
  expect((await received().next()).done).toBe(true)
  expect(ready.generation).toBe(1)
}

test('grantees have so many each and together, and the owner the rest', async () => {
  const open: ClientSession[] = []
  const shared = LIMITS.sessions - LIMITS.sessionsOwner
  for (let number = 1; number <= shared / LIMITS.sessionsEach; number++) {
    const grantee = newGrantee(number)
    for (let i = 0; i < LIMITS.sessionsEach; i++) open.push(await broker.session(agentDh, grantee))
    await expect(broker.session(agentDh, grantee)).rejects.toMatchObject({ code: 'grant-invalid' })
    expect(await agent.saw('session.failed')).toMatchObject({ refusal: 'limit-exceeded' })
  }
  expect(open).toHaveLength(shared)
  const another = newGrantee(99)
  await expect(broker.session(agentDh, another)).rejects.toMatchObject({ code: 'grant-invalid' })
  for (let i = 0; i < LIMITS.sessionsOwner; i++) open.push(await broker.session(agentDh))
  for (const session of open) await works(session)
  // nobody could be let in: said at once
  const late = broker.offer('channel')
  expect(
    await broker.messages.next(message => message.type === 'declined' && message.session === late.session),
  ).toMatchObject({ code: 'limit-exceeded' })
  open[0]?.close()
  await agent.saw('session.ended')
  open.push(await broker.session(agentDh, another))
  for (const session of open.slice(1)) await works(session)
})

test('an owner who takes the last place with several at once is told that it was the last, and not that the key is wrong', async () => {
  for (let i = 0; i < LIMITS.sessions - 1; i++) await broker.session(agentDh)
  const both = await Promise.all([broker.session(agentDh), broker.session(agentDh)])
  const [end] = await Promise.race(both.map(async session => [await session.closed]))
  expect(end).toMatchObject({ code: 'limit-exceeded' })
  for (const session of both) if (!session.over) await works(session)
  expect(both.filter(({ over }) => over)).toHaveLength(1)
})
