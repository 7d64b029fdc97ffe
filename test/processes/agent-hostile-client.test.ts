/** A client that may do next to nothing and tries to bring the agent down, against a real one. SPEC §7.1, §8 */
import type { Socket } from 'node:net'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { info } from '../../protocol/commands/info.ts'
import { frame, record } from '../support/frames.ts'
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

const RECORDS = 24
const OPENS = 240

test('a grantee who asks for thousands of refusals and hangs up does not end the agent', async () => {
  const owner = await broker.session(agentDh)
  const { channel, socket } = await broker.channel(agentDh, granteeOf(broker.launch, ['info']))
  await channel.receive()
  // one segment: the agent still reads when it learns that nobody takes its answers
  const raw = (socket as unknown as { _socket: Socket })._socket
  raw.cork()
  for (let sent = 0; sent < RECORDS; sent++) {
    const opens = Array.from({ length: OPENS }, (_, i) => frame('open', (sent * OPENS + i) * 2 + 1, Uint8Array.of(0)))
    channel.send(record(...opens))
  }
  channel.close()
  raw.uncork()
  await agent.log.next(line => line.event === 'session.failed')
  expect((await owner.open(info, {})).ready.generation).toBe(1)
  expect((await (await broker.session(agentDh)).open(info, {})).ready.generation).toBe(1)
})
