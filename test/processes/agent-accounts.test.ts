/** People at a real agent: each acts by an account of their own, closed to the others. SPEC §2.9 */
import { afterAll, beforeAll, expect, test } from 'vitest'
import { exec } from '../../protocol/commands/exec.ts'
import { accountOf } from '../../protocol/control/account.ts'
import { decodeText } from '../../protocol/core/bytes.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { describeUnless, needsRoot } from '../support/possible.ts'
import { granteeOf } from './agent-people.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

describeUnless(needsRoot('to act as several users'), 'two grantees and the owner', () => {
  let broker: StandInBroker
  let agent: AgentProcess
  const sessions: ClientSession[] = []
  const names: string[] = []

  beforeAll(async () => {
    broker = await StandInBroker.start()
    agent = new AgentProcess(broker).start()
    sessions.push(await broker.session())
    names.push(accountOf(broker.launch.ticket.owner).name)
    const { agentDh } = await broker.enrolments.next(() => true)
    for (const number of [1, 2]) {
      const grantee = granteeOf(broker.launch, ['exec'], { number })
      sessions.push(await broker.session(agentDh, grantee))
      names.push(accountOf(grantee.sign).name)
    }
  })
  afterAll(async () => {
    for (const session of sessions) session.close()
    await agent?.remove()
    broker?.close()
  })

  /** What a shell of that person prints, and its exit code. */
  const sh = async (person: number, script: string, user?: string) => {
    const params = { argv: ['sh', '-c', script], ...(user === undefined ? {} : { user }) }
    const call = await (sessions[person] as ClientSession).open(exec, params)
    let [out, code] = ['', null as number | null]
    for await (const item of call.received()) {
      if (item.type === 'message') code = item.body.code
      else out += decodeText(item.bytes)
    }
    return { out, code }
  }

  test('have a uid each, and nobody reads, writes or ends what is another’s', async () => {
    const uids = await Promise.all([0, 1, 2].map(async person => (await sh(person, 'id -u')).out.trim()))
    expect(new Set(uids).size).toBe(3)
    expect((await sh(1, 'umask 0; echo mine >~/file; echo ok')).out).toBe('ok\n')
    const running = await (sessions[1] as ClientSession).open(exec, { argv: ['sh', '-c', 'echo $$; exec sleep 600'] })
    const { value } = await running.received().next()
    const pid = decodeText((value as { bytes: Uint8Array }).bytes).trim()
    const home = (await sh(1, 'echo ~')).out.trim()
    for (const attempt of [
      `cat ${home}/file`,
      `ls ${home}`,
      `echo x >>${home}/.bashrc`,
      `rm -rf ${home}`,
      `kill -9 ${pid}`,
      `cat /proc/${pid}/environ`,
      `ls /proc/${pid}/fd`,
      `dd if=/proc/${pid}/mem count=1`,
    ]) {
      expect((await sh(2, `${attempt} 2>&1`)).code, attempt).not.toBe(0)
    }
    expect((await sh(1, `cat ~/file; kill -0 ${pid} && echo alive`)).out).toBe('mine\nalive\n')
    running.reset('going-away')
  })

  test('act as nobody else, unless they own the VM', async () => {
    for (const user of ['root', 'daemon', names[0], names[1]]) {
      await expect(sh(2, 'id', user), user).rejects.toMatchObject({ code: 'denied' })
    }
    expect((await sh(2, 'id -u', names[2])).code).toBe(0)
    expect((await sh(0, 'id -u', 'root')).out).toBe('0\n')
    expect((await sh(0, 'id -u', names[1])).out).toBe((await sh(1, 'id -u')).out)
  })
})
