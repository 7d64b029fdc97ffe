/** What the host can read of sessions: nothing that a session carried, whatever was refused and however. SPEC §8 */
import { afterAll, beforeAll, expect } from 'vitest'
import { COMMANDS, type CommandName } from '../../protocol/commands/index.ts'
import { PERMISSIONS, type Permission } from '../../protocol/control/roles.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { granteeOf } from '../processes/agent-people.ts'
import { AgentProcess, EVERYTHING, StandInBroker } from '../processes/agent-support.ts'
import { attack } from './attack.ts'
import { BENDS, Canaries, commandNamed, PARAMS } from './canaries.ts'

let broker: StandInBroker
let agent: AgentProcess
let agentDh: Uint8Array
const canaries = new Canaries()

beforeAll(async () => {
  broker = await StandInBroker.start()
  agent = new AgentProcess(broker, EVERYTHING).start()
  agentDh = (await broker.enrolments.next(() => true)).agentDh
})
afterAll(async () => {
  await agent?.remove()
  broker?.close()
})

/** Calls a command and waits for its end; how it ends does not matter. */
async function call(session: ClientSession, name: string, params: unknown, then?: 'message' | 'data' | 'secret') {
  try {
    const open = await session.open(commandNamed(name), params as never)
    if (then === 'message')
      open.post(canaries.text(`${name}: message`) as never, { [canaries.text(`${name}: body`)]: 1 } as never)
    if (then === 'data') await open.write(canaries.bytes(`${name}: data`, 200))
    open.end()
    const late = setTimeout(() => open.reset('timeout'), 3_000)
    for await (const _ of open.received()) {
      // whatever it says
    }
    clearTimeout(late)
  } catch {
    // it was refused, which is what is looked at
  }
}

/** Everything that the agent wrote: its log, which goes to journal and console, and whatever else it printed. */
const written = () => agent.log.all.map(line => JSON.stringify(line)).join('\n')

async function expectClean(): Promise<void> {
  // what is written late
  await new Promise(resolve => setTimeout(resolve, 300))
  expect(canaries.foundIn(written())).toEqual([])
  expect(agent.log.all.map(({ event }) => event)).toContain('agent.started')
}

/** Makes every command fail in every way, as one caller. */
async function refuseEverything(permissions: readonly Permission[] | 'owner'): Promise<void> {
  const grantee =
    permissions === 'owner' ? undefined : granteeOf(broker.launch, [...permissions], { number: permissions.length + 1 })
  for (const name of Object.keys(COMMANDS) as CommandName[]) {
    // what is broken off ends a session
    const session = await broker.session(agentDh, grantee)
    for (const bend of Object.values(BENDS)) await call(session, name, bend(PARAMS[name](canaries), canaries, name))
    await call(session, name, PARAMS[name](canaries), 'message')
    await call(session, name, PARAMS[name](canaries), 'data')
    await call(session, canaries.text('name of a command'), PARAMS[name](canaries))
    session.close()
  }
  await expectClean()
}

attack('no refusal of the agent to the owner says on the console what was asked', { tries: 1 }, () =>
  refuseEverything('owner'),
)

attack('no refusal of the agent to who may do nothing says on the console what was asked', { tries: 1 }, () =>
  refuseEverything([]),
)

attack('no refusal of the agent to who may not act as others says on the console what was asked', { tries: 1 }, () =>
  refuseEverything(PERMISSIONS.filter(word => word !== 'users' && word !== 'power')),
)

attack('programs that run leave nothing of what they were given and printed', { tries: 2 }, async () => {
  const session = await broker.session(agentDh)
  const inner = canaries.text('printed')
  const env = { TOKEN: canaries.text('token') }
  const argv = ['/bin/sh', '-c', `echo ${inner}; echo ${inner} >&2; exit 3`, canaries.text('argument')]
  await call(session, 'exec', { argv, env })
  await call(session, 'exec', { argv: ['/bin/sh', '-c', `kill -SEGV $$ # ${canaries.text('crash')}`], env })
  session.close()
  await expectClean()
})

attack('who is not let in leaves nothing of what the grant said', { tries: 2 }, async number => {
  // a grant of somebody else's VM, which the agent reads before it refuses it
  const other = await StandInBroker.start()
  const grantee = granteeOf(other.launch, ['exec'], { number: 77 + number })
  await expect(broker.session(agentDh, grantee)).rejects.toThrow()
  other.close()
  const from = agent.log.all.findLastIndex(({ event }) => event === 'session.failed')
  expect(agent.log.all[from]).toMatchObject({ refusal: 'grant-invalid' })
  for (const id of [other.launch.ticket.vm, Buffer.from(grantee.sign).toString('base64url')]) {
    expect(written()).not.toContain(id)
  }
  await expectClean()
})
