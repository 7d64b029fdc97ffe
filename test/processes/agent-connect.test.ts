/** The agent as a process against a broker's end: enrolment, dialling again, whom it refuses, and how it ends. SPEC §3.2 */
import { afterEach, expect, test } from 'vitest'
import { info } from '../../protocol/commands/info.ts'
import { newLaunch } from './agent-people.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

let broker: StandInBroker
let agent: AgentProcess

async function start(options: { lies?: StandInBroker['lies']; config?: string } = {}) {
  broker = await StandInBroker.start()
  broker.lies = options.lies ?? {}
  agent = new AgentProcess(broker, options.config).start()
}

afterEach(async () => {
  await agent.remove()
  broker.close()
})

test('it enrols with its addresses and keys, and reports ready once the owner is proven', async () => {
  await start()
  const enrolment = await broker.enrolments.next(() => true)
  expect(enrolment).toMatchObject({ vm: broker.launch.ticket.vm, generation: 1, protocols: [1] })
  await agent.saw('enrolled')
  expect(broker.messages.all).toEqual([])
  const session = await broker.session()
  expect(await broker.messages.next(() => true)).toEqual({ type: 'ready' })
  expect(session.commands).toContain('exec')
  await broker.session()
  expect(broker.messages.all.length).toBe(1)
})

test('a broker that names another owner is refused and never served', async () => {
  await start({ lies: { ownerDh: new Uint8Array(32).fill(3) } })
  expect(await agent.saw('enrolment.refused')).toMatchObject({ code: 'owner-mismatch' })
  expect(agent.log.all.map(line => line.event)).not.toContain('enrolled')
  await expect.poll(() => broker.control?.readyState).toBe(3)
})

test('a broker that is not the ticket’s gets no enrolment', async () => {
  await start({ lies: { broker: new Uint8Array(32).fill(3) } })
  expect(await agent.saw('enrolment.refused')).toMatchObject({ code: 'broker-mismatch' })
  expect(broker.enrolments.all).toEqual([])
})

test('a refused enrolment is logged with its code', async () => {
  await start({ lies: { refuse: 'denied' } })
  expect(await agent.saw('enrolment.refused')).toMatchObject({ code: 'denied' })
})

test('it dials again after the socket is lost, with the same keys and generation, and sessions go on meanwhile', async () => {
  await start()
  const session = await broker.session()
  const first = broker.enrolments.all[0]
  broker.control?.terminate()
  await broker.enrolments.next(() => true, 1)
  expect(broker.enrolments.all[1]).toEqual(first)
  expect((await session.open(info, {})).ready.generation).toBe(1)
  const other = await broker.session(first?.agentDh)
  expect((await other.open(info, {})).ready.generation).toBe(1)
})

test('an agent that starts again in the same boot does not count a new generation', async () => {
  await start()
  await broker.enrolments.next(() => true)
  expect(await agent.stop()).toBe(0)
  agent.start()
  expect((await broker.enrolments.next(() => true, 1)).generation).toBe(1)
})

test('SIGTERM ends sessions in order', async () => {
  await start()
  const session = await broker.session()
  expect(await agent.stop()).toBe(0)
  expect(await session.closed).toBeUndefined()
})

test('someone else’s client gets no session', async () => {
  await start()
  await broker.enrolments.next(() => true)
  Object.assign(broker.launch, { ownerKeys: newLaunch().ownerKeys })
  await expect(broker.session()).rejects.toThrow()
  expect(await agent.saw('session.failed')).toMatchObject({ code: 'handshake' })
  expect(broker.messages.all).toEqual([])
})

test('an ssh offer without a delivered key is declined', async () => {
  await start()
  await agent.saw('enrolled')
  const { session } = broker.offer('ssh')
  expect(await broker.messages.next(() => true)).toEqual({ type: 'declined', session, code: 'ssh-not-authorised' })
})

test('a feature that the brick switches off is denied', async () => {
  await start({ config: 'features = ["exec"]\n' })
  const session = await broker.session()
  expect(session.commands).toEqual(['exec', 'exec-list'])
  await expect(session.open(info, {})).rejects.toMatchObject({ code: 'denied' })
})

test('an unknown configuration key ends it with bad-config', async () => {
  await start({ config: 'faetures = []\n' })
  expect(await agent.saw('agent.failed')).toMatchObject({ code: 'bad-config' })
  // before there are sessions it may say what is wrong
  await agent.log.next(({ event, line }) => event === 'text' && /faetures/.test(String(line)))
})
