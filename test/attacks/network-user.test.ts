/** What root in a guest reaches under user networking, where QEMU connects in its name: the agent listener, and nothing else. */
import { execFileSync } from 'node:child_process'
import { createServer, type Server } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { PROBE_TEXT, readFindings } from '../support/probe.ts'
import { attack } from './attack.ts'

const run = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe' })
/** as QEMU shows the host's loopback, and its own name server */
const [HOST, NAMES] = ['10.0.2.2', '10.0.2.3']
/** an address of the host on another interface */
const OTHER = { bridge: 'mtrlan', address: '198.51.100.1' } as const

describeGuest('a guest under user networking', () => {
  let machine: Machine
  const servers: Server[] = []
  const pages: Record<string, number> = {}
  const agentPort = () => Number(new URL(machine.agents).port)

  beforeAll(async () => {
    machine = await Machine.start({ network: 'user' })
    run('ip', 'link', 'add', OTHER.bridge, 'type', 'bridge')
    run('ip', 'address', 'add', `${OTHER.address}/24`, 'dev', OTHER.bridge)
    run('ip', 'link', 'set', OTHER.bridge, 'up')
    for (const address of ['127.0.0.1', OTHER.address]) {
      const server = createServer((_request, response) => response.end(`page of ${address}`))
      servers.push(server)
      await new Promise<void>(resolve => server.listen(0, address, resolve))
      pages[address] = (server.address() as { port: number }).port
    }
    await machine.launch(machine.people.owner, 'lab')
    const args = ['exec', 'lab', '--user', 'root', '--', 'sh', '-c', 'cat >/root/probe.pl']
    await machine.mortar(machine.people.owner, args, { input: PROBE_TEXT })
    // QEMU answers for every address
    await inGuest(['ip', 'route', 'add', 'default', 'via', HOST])
  })
  afterAll(async () => {
    await machine?.dispose()
    for (const server of servers) server.close()
    run('ip', 'link', 'delete', OTHER.bridge)
  })

  const inGuest = (argv: readonly string[]) =>
    machine.inVm(machine.people.owner, 'lab', argv, { user: 'root', timeoutMs: 200_000 })
  const probe = async (...attempts: string[]) => readFindings(await inGuest(['perl', '/root/probe.pl', ...attempts]))
  const services = () => [
    `tcp:${HOST}:${pages['127.0.0.1']}`,
    `tcp:${OTHER.address}:${pages[OTHER.address]}`,
    `tcp:${HOST}:${new URL(machine.url).port}`,
    `tcp:${HOST}:${machine.ssh.split(':').at(-1)}`,
  ]

  attack(
    'reaches no service of the host, on its loopback or elsewhere, but the agent listener',
    { tries: 3 },
    async () => {
      for (const finding of await probe(...services())) expect(finding.came, finding.attempt).toBe('')
      const [listener] = await probe(`tcp:${HOST}:${agentPort()}`)
      expect(listener?.came).toMatch(/^HTTP\/1\.1 404 /)
    },
  )

  attack('gets no answer by the name server that QEMU shows it', { tries: 3 }, async () => {
    for (const finding of await probe(`udp:${NAMES}:53`, `udp:${HOST}:53`, 'udp:192.0.2.1:53'))
      expect(finding.state, finding.attempt).toBe('silent')
  })

  test('without the filter the same attempts succeed', async () => {
    const attempts = [...services(), `udp:${NAMES}:53`].map(attempt => `'${attempt}'`).join(' ')
    const later = `sleep 5; perl /root/probe.pl ${attempts} >/run/open.part; mv /run/open.part /run/open`
    await inGuest(['systemd-run', '--quiet', '--collect', 'sh', '-c', later])
    // a broker that does not run mends nothing
    process.kill(machine.brokerPid, 'SIGSTOP')
    try {
      run('nft', 'delete', 'table', 'inet', machine.plan.name)
      await delay(15_000)
    } finally {
      process.kill(machine.brokerPid, 'SIGCONT')
    }
    await expect.poll(() => inGuest(['cat', '/run/open']).catch(() => ''), { timeout: 60_000 }).not.toBe('')
    const came = readFindings(await inGuest(['cat', '/run/open'])).map(finding => finding.came ?? '')
    expect(came[0]).toContain('page of 127.0.0.1')
    expect(came[1]).toContain(`page of ${OTHER.address}`)
    // and the broker has mended it since
    await expect.poll(async () => (await probe(services()[0] ?? ''))[0]?.came).toBe('')
  })
})
