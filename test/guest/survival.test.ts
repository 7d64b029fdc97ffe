/** The VM stays up: through a client that goes, a broker that is killed, an agent that restarts. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Vm } from '../../protocol/control/api.ts'
import { domainIds } from '../support/domains.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'

describeGuest('survival', () => {
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    await machine.must(owner(), ['drive', 'create', 'data', '--size', '32M'])
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
    await machine.must(owner(), ['drive', 'unlock', 'data', '--format'])
  })
  afterAll(() => machine?.dispose())

  const owner = () => machine.people.owner
  const vm = async () => (await machine.must<{ vm: Vm }>(owner(), ['vm', 'show', 'lab'])).vm
  const bootId = () => machine.inVm(owner(), 'lab', ['cat', '/proc/sys/kernel/random/boot_id'])
  const connected = async () => {
    for (let tries = 0; tries < 60 && !(await vm()).agent?.connected; tries++) await delay(500)
    return (await vm()).agent?.connected
  }

  test('VM survives client disconnect', async () => {
    const boot = await bootId()
    const client = spawn(machine.binaries.client, ['exec', 'lab', '--', 'sleep', '9876'], {
      env: machine.environment(owner()),
    })
    const count = () => machine.inVm(owner(), 'lab', ['sh', '-c', "pgrep -c -f '^[^ ]*sleep 9876$' || true"])
    await expect.poll(count, { timeout: 60_000, interval: 1_000 }).not.toBe('0\n')
    client.kill('SIGKILL')
    // what ran for the client waits for it to come back; the VM stays in any case
    await delay(3_000)
    expect(await count()).toBe('1\n')
    expect(await bootId()).toBe(boot)
    await machine.inVm(owner(), 'lab', ['pkill', '-f', '^[^ ]*sleep 9876$'])
  })

  test('VM survives broker restart (kill -9)', async () => {
    const [boot, before] = [await bootId(), await vm()]
    await machine.stopBroker('SIGKILL')
    expect(await domainIds()).toContain(before.id)
    await machine.startBroker()
    expect(await connected()).toBe(true)
    const after = await vm()
    expect(after).toMatchObject({ id: before.id, state: 'ready', certificate: before.certificate })
    expect(after.agent).toMatchObject({ generation: 1, agentDh: before.agent?.agentDh })
    expect(await bootId()).toBe(boot)
    expect((await machine.must<{ drives: object[] }>(owner(), ['drive', 'list'])).drives).toMatchObject([
      { name: 'data', attachedTo: before.id },
    ])
  })

  test('a program and all of its output survive the broker, killed while it runs', async () => {
    const script = 'seq 1 300000; sleep 6; cat; seq 300001 600000; exit 5'
    const client = spawn(machine.binaries.client, ['exec', 'lab', '--', 'sh', '-c', script], {
      env: machine.environment(owner()),
    })
    const [output, told] = [[] as Buffer[], [] as Buffer[]]
    client.stdout.on('data', chunk => output.push(chunk))
    client.stderr.on('data', chunk => told.push(chunk))
    const ended = once(client, 'close')
    client.stdin.write('typed before\n')
    await once(client.stdout, 'data')
    await machine.stopBroker('SIGKILL')
    client.stdin.end('typed while nobody was there\n')
    await delay(3_000)
    await machine.startBroker()
    expect((await ended)[0]).toBe(5)
    const numbers = (from: number, to: number) =>
      Array.from({ length: to - from + 1 }, (_, i) => `${from + i}\n`).join('')
    const expected = `${numbers(1, 300_000)}typed before\ntyped while nobody was there\n${numbers(300_001, 600_000)}`
    expect(Buffer.concat(output).toString() === expected).toBe(true)
    expect(Buffer.concat(told).toString()).toContain('connected again')
    expect(await connected()).toBe(true)
  })

  test('VM survives agent restart, with its keys and its open drive', async () => {
    const [boot, before] = [await bootId(), await vm()]
    await machine.inVm(owner(), 'lab', ['sh', '-c', 'echo kept > /drives/data/file'])
    await machine.mortar(owner(), [
      'exec',
      'lab',
      '--user',
      'root',
      '--',
      'systemctl',
      'kill',
      '-s',
      'KILL',
      'mortar-agent',
    ])
    await delay(2_000)
    expect(await connected()).toBe(true)
    expect(await bootId()).toBe(boot)
    expect((await vm()).agent).toMatchObject({ generation: 1, agentDh: before.agent?.agentDh })
    expect(await machine.inVm(owner(), 'lab', ['cat', '/drives/data/file'])).toBe('kept\n')
  })

  test('a stopped VM says so, and its drive is free', async () => {
    await machine.must(owner(), ['vm', 'stop', 'lab', '--yes'])
    await machine.must(owner(), ['vm', 'wait', 'lab', '--for', 'stopped'])
    expect((await vm()).state).toBe('stopped')
    expect((await machine.must<{ drives: object[] }>(owner(), ['drive', 'list'])).drives).toMatchObject([
      { name: 'data', attachedTo: null },
    ])
    expect((await machine.mortar(owner(), ['exec', 'lab', '--', 'true'])).code).toBe(125)
  })
})
