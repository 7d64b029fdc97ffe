/** What of a guest reaches the console, which broker and administrators read: stages of its boot, and nothing that people do in it. */
import { readdirSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { afterAll, beforeAll, expect } from 'vitest'
import type { Vm } from '../../protocol/control/api.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { attack } from './attack.ts'
import { Canaries } from './canaries.ts'

/** the file of 2 MiB and three older ones, as SECURITY says; and half as much more: a guest under emulation writes 2 MiB in a minute */
const [BOUND_BYTES, FLOOD_BYTES] = [4 * 2 ** 21, 6 * 2 ** 21]

describeGuest('console of a guest', () => {
  let machine: Machine
  let vm: Vm
  const canaries = new Canaries()
  beforeAll(async () => {
    machine = await Machine.start()
    vm = await machine.launch(machine.people.owner, 'lab')
  })
  afterAll(() => machine?.dispose())

  const consoleText = () => readFileSync(join(machine.dataDir, 'vms', vm.id, 'console.log'), 'latin1')
  const brokerLog = () => readFileSync(machine.logPath, 'utf8')

  attack(
    'nothing of refused commands, of programs that crash, of units and of users is on the console',
    { tries: 1 },
    async () => {
      const { owner } = machine.people
      const word = (where: string) => canaries.text(where)
      const run = (...args: string[]) => machine.mortar(owner, ['exec', 'lab', ...args], { timeoutMs: 120_000 })
      await run('--env', `TOKEN=${word('env')}`, '--', `/usr/bin/${word('argv[0]')}`, word('argv'))
      await run('--cwd', `/${word('cwd')}`, '--', 'true')
      await run('--user', word('user'), '--', 'true')
      await run('--', 'sh', '-c', `echo ${word('stdout')}; echo ${word('stderr')} >&2; exit 3`)
      const name = word('name of a program that crashes').slice(0, 15)
      canaries.form('name of a program that crashes', name)
      await run('--user', 'root', '--', 'sh', '-c', `cp /bin/sh /root/${name}; /root/${name} -c 'kill -SEGV $$'; true`)
      // what only a manager could do: a unit that fails, and a program that the kernel ends for want of memory
      const unit = word('description of a unit')
      await run('--user', 'root', '--', 'systemd-run', '--wait', `--description=${unit}`, '/bin/false')
      const eater = `/root/${name} -c 'a=x; while :; do a=$a$a; done'`
      await run('--user', 'root', '--', 'systemd-run', '--wait', '-p', 'MemoryMax=30M', 'sh', '-c', eater)
      await run('--user', 'root', '--', 'logger', '-p', 'daemon.emerg', word('an emergency in the log'))
      const text = consoleText()
      expect(text).toContain('agent.started')
      expect(canaries.foundIn(text)).toEqual([])
      expect(canaries.foundIn(brokerLog())).toEqual([])
      // the search finds what is there
      const control = word('control')
      await run('--user', 'root', '--', 'sh', '-c', `echo ${control} > /dev/console`)
      await expect.poll(() => canaries.foundIn(consoleText())).toEqual(['control'])
    },
  )

  attack(
    'a guest that writes to its console without end does not fill the disk of the host',
    { tries: 1, timeoutMs: 900_000 },
    async () => {
      // numbered lines of 64 bytes, so that what is left tells how much came before it
      const lines = FLOOD_BYTES / 64
      const flood = `seq -f '%062.0f ' 1 ${lines} | dd bs=64k iflag=fullblock of=/dev/console`
      const { code, stderr } = await machine.mortar(
        machine.people.owner,
        ['exec', 'lab', '--user', 'root', '--', 'sh', '-c', flood],
        { timeoutMs: 800_000 },
      )
      expect([code, stderr]).toEqual([0, expect.stringContaining(`${FLOOD_BYTES} bytes`)])
      const folder = join(machine.dataDir, 'vms', vm.id)
      const logs = () =>
        readdirSync(folder)
          .filter(file => file.startsWith('console.log'))
          .map(file => join(folder, file))
      const last = `${String(lines).padStart(62, '0')} \r\n`
      const holds = (log: string) => readFileSync(log, 'latin1').includes(last)
      await expect.poll(() => logs().some(holds), { timeout: 60_000 }).toBe(true)
      const bytes = logs().reduce((sum, log) => sum + statSync(log).size, 0)
      console.log(`of ${FLOOD_BYTES} bytes the host keeps ${bytes}`)
      expect(bytes).toBeGreaterThan(0)
      expect(bytes).toBeLessThanOrEqual(BOUND_BYTES)
    },
  )
})
