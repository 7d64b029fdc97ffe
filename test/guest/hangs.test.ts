/** What hangs in a VM: PID 1 starts an agent again, which costs no program; a runner is lost with its own programs alone. */
import { afterAll, afterEach, beforeAll, expect, test } from 'vitest'
import { nodeHost } from '../../client/node/host.ts'
import { readDetached, startDetached } from '../../client/programs/detached.ts'
import { collectProgram, type ExecParams, runProgram } from '../../client/programs/exec.ts'
import { connectGrantedVm } from '../../client/sessions/connect.ts'
import { openLasting } from '../../client/sessions/lasting-session.ts'
import { findVm } from '../../client/vms/vm.ts'
import type { MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { handsOf, sessionWith } from '../support/person.ts'

const DROP_IN = '/run/systemd/system/mortar-agent.service.d'
const ENOUGH = '/run/enough'
/** counts, with the seconds since the boot beside each number, until there is enough */
const COUNTING = `n=0; until [ -e ${ENOUGH} ]; do n=$((n + 1)); read up _ </proc/uptime; echo $n $up; sleep 0.2; done; exit 7`
const argv = ['sh', '-c', COUNTING]

describeGuest('what hangs', () => {
  let machine: Machine
  let ours: ClientSession
  let theirs: ClientSession

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(machine.people.owner, 'lab')
    const person = await handsOf(machine, machine.people.owner)
    ours = await openLasting({ host: nodeHost, connect: () => sessionWith(person, 'lab') })
    expect(await shown('WatchdogUSec')).toBe('2min\n')
    // the same in a minute; an agent is told at its start
    const sooner = `mkdir -p ${DROP_IN}; printf '[Service]\\nWatchdogSec=60\\n' >${DROP_IN}/sooner.conf`
    await root(`${sooner}; systemctl daemon-reload; systemctl restart mortar-agent`)
    expect(await shown('WatchdogUSec')).toBe('1min\n')
    const { owner, other } = machine.people
    await machine.must(owner, ['grant', 'create', 'lab', other.identity, '--allow', 'exec'])
    const { broker, identity } = await handsOf(machine, other)
    const connect = async () =>
      (await connectGrantedVm(broker, identity, nodeHost, await findVm(broker, 'lab'))).session
    theirs = await openLasting({ host: nodeHost, connect })
  })
  afterEach(() => root(`rm -f ${ENOUGH}`))
  afterAll(async () => {
    theirs?.close()
    ours?.close()
    await machine?.dispose()
  })

  const root = async (script: string) => {
    const { stdout } = await collectProgram(ours, { argv: ['sh', '-c', script], user: 'root' })
    return Buffer.from(stdout).toString()
  }
  const shown = (property: string) => root(`systemctl show -P ${property} mortar-agent`)

  /** Runs a program; resolves once it has said something. `ended`: how it ended, or the code of its error, and what it said. */
  async function begin(session: ClientSession, params: ExecParams) {
    let said = ''
    const first = Promise.withResolvers<void>()
    const onOutput = (bytes: Uint8Array) => {
      said += Buffer.from(bytes).toString()
      first.resolve()
    }
    const exit = runProgram(session, params, { onOutput }).catch((error: MortarError) => error.code)
    await Promise.race([first.promise, exit])
    return { ended: exit.then(how => ({ how, said })) }
  }

  /** Fails unless it counted from 1 without a gap and without a pause; returns the second in which it ended. */
  function expectWhole(said: string): number {
    const lines = said.trimEnd().split('\n')
    expect(lines.map(line => Number(line.split(' ')[0]))).toEqual(lines.map((_, index) => index + 1))
    const seconds = lines.map(line => Number(line.split(' ')[1]))
    const pauses = seconds.slice(1).map((second, index) => second - (seconds[index] ?? 0))
    expect(Math.max(...pauses)).toBeLessThan(10)
    return seconds.at(-1) ?? 0
  }

  test('an agent that hangs is started again by PID 1, and its programs go on with all that they say', async () => {
    const restarts = Number(await shown('NRestarts'))
    const [own, granted] = [await begin(ours, { argv }), await begin(theirs, { argv })]
    const detached = await startDetached(ours, nodeHost, { argv })
    // who stops it hears of it from the next one
    await root('systemctl kill --kill-whom=main -s STOP mortar-agent')
    expect(Number(await shown('NRestarts'))).toBe(restarts + 1)
    expect(await root("journalctl -q -o cat -u mortar-agent -u init.scope | grep -c 'Watchdog timeout'")).toBe('1\n')
    const startedAt = Number(await shown('ExecMainStartTimestampMonotonic')) / 1_000_000
    await root(`sleep 1; touch ${ENOUGH}`)
    for (const { ended } of [own, granted]) {
      const { how, said } = await ended
      expect(how).toEqual({ code: 7, signal: null })
      expect(expectWhole(said)).toBeGreaterThan(startedAt)
    }
    let said = ''
    const exit = await readDetached(ours, nodeHost, detached, {
      onOutput(bytes) {
        said += Buffer.from(bytes).toString()
      },
      onGap: count => expect.fail(`${count} bytes are gone`),
    })
    expect(exit).toEqual({ code: 7, signal: null })
    expect(expectWhole(said)).toBeGreaterThan(startedAt)
  })

  test('a runner that hangs loses its own programs as runner-lost, and no other', async () => {
    const { stdout } = await collectProgram(ours, { argv: ['id', '-u'] })
    const unit = `mortar-runner-owner-${Buffer.from(stdout).toString().trim()}.service`
    const lost = await begin(ours, { argv: ['sh', '-c', 'echo on; exec sleep 9876'] })
    const others = [await begin(ours, { argv, user: 'root' }), await begin(theirs, { argv })]
    await root(`systemctl kill --kill-whom=main -s STOP ${unit}`)
    expect(await lost.ended).toEqual({ how: 'runner-lost', said: 'on\n' })
    // the next one starts once nothing is left of it
    const next = await begin(ours, { argv: ['sh', '-c', "pgrep -f '^sleep 987[6]' || echo nothing left"] })
    expect(await next.ended).toEqual({ how: { code: 0, signal: null }, said: 'nothing left\n' })
    await root(`touch ${ENOUGH}`)
    for (const { ended } of others) {
      const { how, said } = await ended
      expect(how).toEqual({ code: 7, signal: null })
      expectWhole(said)
    }
  })
})
