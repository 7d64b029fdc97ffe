/** What root in a guest reaches on the isolated network, tried from inside: the agent listener, and nothing else. */
import { type ChildProcess, execFileSync, spawn } from 'node:child_process'
import { createSocket, type Socket } from 'node:dgram'
import { readFileSync, writeFileSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { domainName } from '../../broker/hypervisor/libvirt/domain-xml.ts'
import { AGENT_PORT, placeOf } from '../../broker/network/plan.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { type Finding, PROBE_TEXT, readFindings } from '../support/probe.ts'
import { attack } from './attack.ts'
import { forgedFrames } from './network-frames.ts'

const run = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe' })
/** the test's own counters, and its own network beside the host */
const COUNTERS = 'mortar_attacks'
const LAN = { bridge: 'mtrlan', host: '198.51.100.1', machine: '198.51.100.2', space: 'mtr-lan' } as const
const UDP_SCAN = readFileSync(new URL('udp-scan.pl', import.meta.url), 'utf8')
/** serves a page at port 80 of every address it has */
const PAGE = "require('node:http').createServer((q, r) => r.end('page of the LAN')).listen(80)"

describeGuest('a guest on the isolated network', () => {
  let machine: Machine
  let host: { mac: string; ip: string }
  let one: { mac: string; ip: string }
  let two: { mac: string; ip: string }
  const vms: Record<string, Vm> = {}
  const servers: (Server | Socket)[] = []
  let lanPage: ChildProcess | undefined
  const pages: Record<string, number> = {}
  /** UDP ports of the host that answer whatever comes */
  const echoes: Record<string, number> = {}

  /** A page that only its address's own listener gives. */
  async function serve(address: string): Promise<void> {
    const server = createServer((_request, response) => response.end(`page of ${address}`))
    servers.push(server)
    await new Promise<void>(resolve => server.listen(0, address, resolve))
    pages[address] = (server.address() as { port: number }).port
  }

  async function echo(address: string): Promise<void> {
    const socket = createSocket('udp4', (said, { port, address: to }) => socket.send(said, port, to))
    servers.push(socket)
    await new Promise<void>(resolve => socket.bind(0, address, resolve))
    echoes[address] = socket.address().port
  }

  /** A machine of the LAN, which knows the way back, and a host that would forward. */
  function addLanMachine(): void {
    const { space, bridge } = LAN
    run('ip', 'netns', 'add', space)
    run('ip', 'link', 'add', 'mtrlan0', 'type', 'veth', 'peer', 'name', 'eth0', 'netns', space)
    run('ip', 'link', 'set', 'mtrlan0', 'master', bridge, 'up')
    run('ip', '-n', space, 'address', 'add', `${LAN.machine}/24`, 'dev', 'eth0')
    run('ip', '-n', space, 'link', 'set', 'eth0', 'up')
    run('ip', '-n', space, 'route', 'add', 'default', 'via', LAN.host)
    for (const name of [bridge, machine.plan.name]) writeFileSync(`/proc/sys/net/ipv4/conf/${name}/forwarding`, '1')
    lanPage = spawn('ip', ['netns', 'exec', space, process.execPath, '-e', PAGE], { stdio: 'ignore' })
  }

  beforeAll(async () => {
    machine = await Machine.start()
    const { plan } = machine
    host = { mac: plan.macAddress, ip: plan.address }
    run('ip', 'link', 'add', LAN.bridge, 'type', 'bridge')
    run('ip', 'address', 'add', `${LAN.host}/24`, 'dev', LAN.bridge)
    run('ip', 'link', 'set', LAN.bridge, 'up')
    addLanMachine()
    for (const address of ['127.0.0.1', '0.0.0.0', plan.address, LAN.host]) await serve(address)
    for (const address of ['0.0.0.0', plan.address]) await echo(address)
    for (const name of ['one', 'two']) {
      vms[name] = await machine.launch(machine.people.owner, name, ['--memory', '512'])
      await put(name, '/root/probe.pl', PROBE_TEXT)
      await put(name, '/root/udp-scan.pl', UDP_SCAN)
    }
    const ends = (slot: number) => {
      const { address, macAddress } = placeOf(plan, slot)
      return { mac: macAddress, ip: address }
    }
    one = ends(2)
    two = ends(3)
    count()
    // what a guest would do who looks for a way out
    await inGuest('one', ['ip', 'route', 'add', 'default', 'via', host.ip])
  })
  afterAll(async () => {
    await machine?.dispose()
    for (const server of servers) server.close()
    lanPage?.kill()
    for (const undo of [
      () => run('ip', 'netns', 'delete', LAN.space),
      () => run('nft', 'delete', 'table', 'bridge', COUNTERS),
      () => run('ip', 'link', 'delete', LAN.bridge),
    ]) {
      try {
        undo()
      } catch {
        // was not made
      }
    }
  })

  const inGuest = (name: string, argv: readonly string[]) =>
    machine.inVm(machine.people.owner, name, argv, { user: 'root', timeoutMs: 500_000 })
  const put = (name: string, path: string, text: string) =>
    machine.inVm(machine.people.owner, name, ['sh', '-c', `cat >${path}`], { user: 'root', input: text })
  const probe = async (name: string, ...attempts: string[]): Promise<Finding[]> =>
    readFindings(await inGuest(name, ['perl', '/root/probe.pl', ...attempts]))

  const portOf = (name: string) =>
    /vnet\d+/.exec(run('virsh', '-q', '-c', 'qemu:///system', 'domiflist', domainName(vms[name]?.id ?? '')))?.[0] ?? ''

  /** Counts what comes out of the port of `one`, before libvirt's filter and after it; of the latter what should not have. */
  function count(): void {
    const port = portOf('one')
    const own = `ether saddr ${one.mac}`
    run(
      'nft',
      `table bridge ${COUNTERS} {
        counter tried {}
        counter escaped {}
        chain before { type filter hook prerouting priority -400; iifname "${port}" counter name tried; }
        chain after {
          type filter hook prerouting priority 0;
          iifname != "${port}" accept
          ${own} arp saddr ip ${one.ip} arp saddr ether ${one.mac} arp daddr ip ${host.ip} accept
          ${own} ip saddr ${one.ip} ip daddr ${host.ip} tcp dport ${AGENT_PORT} accept
          counter name escaped
        }
      }`,
    )
  }
  function counted(name: 'tried' | 'escaped'): number {
    const { nftables } = JSON.parse(run('nft', '-j', 'list', 'counter', 'bridge', COUNTERS, name)) as {
      nftables: { counter?: { packets: number } }[]
    }
    return nftables.find(({ counter }) => counter)?.counter?.packets ?? -1
  }

  const services = () => [
    `tcp:${host.ip}:${pages[host.ip]}`,
    `tcp:${host.ip}:${pages['0.0.0.0']}`,
    `tcp:${LAN.host}:${pages[LAN.host]}`,
    `tcp:${LAN.host}:${pages['0.0.0.0']}`,
    `tcp:${LAN.machine}:80`,
    `tcp:10.0.2.2:${pages['127.0.0.1']}`,
    `tcp:${host.ip}:${new URL(machine.url).port}`,
  ]
  const frames = () => Object.values(forgedFrames(one, two, host, AGENT_PORT)).map(frame => `frame:${frame}`)

  attack('reaches no service of the host, at whichever of its addresses it listens', { tries: 3 }, async () => {
    for (const finding of await probe('one', ...services()))
      expect(finding).toMatchObject({ state: 'silent', came: '' })
  })

  attack(
    'finds one port of the host open, the agent listener’s, and hears of no other',
    { tries: 1, timeoutMs: 600_000 },
    async () => {
      const all = `ulimit -n 9000; PROBE_BATCH=8000 perl /root/probe.pl scan:${host.ip}:1:65535`
      const [scan] = readFindings(await inGuest('one', ['sh', '-c', all]))
      expect(scan).toMatchObject({ open: [AGENT_PORT], rest: { silent: 65_534 } })
    },
  )

  attack('finds no UDP port of the host, and hears of none', { tries: 1, timeoutMs: 600_000 }, async () => {
    const before = { tried: counted('tried'), escaped: counted('escaped') }
    const all = `ulimit -n 9000; PROBE_BATCH=8000 perl /root/udp-scan.pl ${host.ip} 1 65535`
    const [scan] = readFindings(await inGuest('one', ['sh', '-c', all]))
    expect(scan).toMatchObject({ open: [], rest: { silent: 65_535 } })
    // each of them left the guest
    expect(counted('tried') - before.tried).toBeGreaterThanOrEqual(65_535)
    expect(counted('escaped')).toBe(before.escaped)
  })

  attack('gets nothing of people’s API from the agent listener', { tries: 3 }, async () => {
    const [finding] = await probe('one', `tcp:${host.ip}:${AGENT_PORT}`)
    expect(finding?.state).toBe('open')
    expect(finding?.came).toMatch(/^HTTP\/1\.1 404 /)
  })

  attack('gets no answer from a name server, from the LAN of the host or from the internet', { tries: 3 }, async () => {
    const places = [host.ip, LAN.host, LAN.machine, '10.0.2.3', '192.0.2.1', '255.255.255.255']
    const attempts = [...places.map(place => `udp:${place}:53`), 'tcp:192.0.2.1:443']
    for (const finding of await probe('one', ...attempts)) expect(finding.state, finding.attempt).toBe('silent')
  })

  attack('reaches nothing by IPv6', { tries: 3 }, async () => {
    await inGuest('one', ['sh', '-c', 'echo 0 >/proc/sys/net/ipv6/conf/eth0/disable_ipv6'])
    const before = { tried: counted('tried'), escaped: counted('escaped') }
    const linkLocal = (mac: string) => {
      const [first = '', ...rest] = mac.split(':')
      const [a, b, c, d, e] = rest
      return `fe80::${(Number.parseInt(first, 16) ^ 2).toString(16)}${a}:${b}ff:fe${c}:${d}${e}%eth0`
    }
    const targets = [linkLocal(host.mac), linkLocal(two.mac)].map(place => `tcp:[${place}]:${AGENT_PORT}`)
    for (const finding of await probe('one', ...targets, 'udp:[ff02::1%eth0]:53'))
      expect(finding.state, finding.attempt).not.toMatch(/open|refused|answered/)
    expect(counted('tried')).toBeGreaterThan(before.tried)
    expect(counted('escaped')).toBe(before.escaped)
  })

  attack('sends no frame under an address or of a protocol that is not its own', { tries: 3 }, async () => {
    const before = counted('tried')
    for (const finding of await probe('one', ...frames())) expect(finding.state).toBe('sent')
    expect(counted('tried') - before).toBeGreaterThanOrEqual(frames().length)
    expect(counted('escaped')).toBe(0)
  })

  attack('is not another VM though it takes its addresses', { tries: 3 }, async () => {
    const take = (mac: string, ip: string) =>
      `ip link set eth0 down; ip link set eth0 address ${mac}; ip address flush dev eth0; ip address add ${ip}/20 dev eth0; ip link set eth0 up`
    // in the background, since the way to the guest is cut meanwhile
    const script = [
      'sleep 1',
      take(two.mac, two.ip),
      `perl /root/probe.pl tcp:${host.ip}:${AGENT_PORT} >/run/stolen`,
      take(one.mac, two.ip),
      `perl /root/probe.pl tcp:${host.ip}:${AGENT_PORT} >>/run/stolen`,
      take(one.mac, one.ip),
      `ip route add default via ${host.ip}`,
    ].join('\n')
    await inGuest('one', ['systemd-run', '--quiet', '--collect', 'sh', '-c', script])
    await delay(12_000)
    await expect.poll(() => inGuest('one', ['cat', '/run/stolen']).catch(() => ''), { timeout: 60_000 }).not.toBe('')
    const findings = readFindings(await inGuest('one', ['cat', '/run/stolen']))
    expect(findings.map(({ came }) => came)).toEqual(['', ''])
    expect(await inGuest('two', ['cat', '/proc/sys/kernel/hostname'])).not.toBe('')
    expect(counted('escaped')).toBe(0)
  })

  attack('reaches no neighbour, which sees nothing of it either, and the other way round', { tries: 2 }, async () => {
    for (const [from, to, end] of [
      ['one', 'two', two],
      ['two', 'one', one],
    ] as const) {
      const other = from === 'one' ? one : two
      const forged = Object.values(forgedFrames(other, end, host, AGENT_PORT)).map(frame => `frame:${frame}`)
      // told the other's MAC address, so that it need not ask for it
      const know = `ip neigh replace ${end.ip} lladdr ${end.mac} dev eth0`
      await inGuest(from, ['sh', '-c', know])
      const listening = probe(to, 'sniff:15')
      await delay(4_000)
      const [found] = await probe(from, `tcp:${end.ip}:22`, `udp:${end.ip}:9`, 'udp:255.255.255.255:9', ...forged)
      expect(found?.state).toBe('silent')
      const [heard] = await listening
      const fromOther = heard?.frames?.filter(frame => frame.slice(12, 24) !== host.mac.replaceAll(':', ''))
      expect(fromOther).toEqual([])
    }
  })

  test('without the filters the same attempts succeed', async () => {
    const attempts = [...services(), ...frames()].map(attempt => `'${attempt}'`).join(' ')
    const scans = Object.values(echoes).map(
      port => `perl /root/udp-scan.pl ${host.ip} ${port - 1} ${port + 1} >/run/udp-${port} &`,
    )
    await inGuest('one', [
      'systemd-run',
      '--quiet',
      '--collect',
      'sh',
      '-c',
      `sleep 6; ${scans.join(' ')} perl /root/probe.pl ${attempts} >/run/open.part; wait; mv /run/open.part /run/open`,
    ])
    const listening = probe('two', 'sniff:40')
    await delay(2_000)
    // a broker that does not run mends nothing
    process.kill(machine.brokerPid, 'SIGSTOP')
    try {
      run('nft', 'delete', 'table', 'inet', machine.plan.name)
      for (const name of ['one', 'two']) {
        run('virsh', '-q', '-c', 'qemu:///system', 'nwfilter-binding-delete', portOf(name))
        run('bridge', 'link', 'set', 'dev', portOf(name), 'isolated', 'off')
      }
      await delay(25_000)
    } finally {
      for (const name of ['one', 'two']) run('bridge', 'link', 'set', 'dev', portOf(name), 'isolated', 'on')
      process.kill(machine.brokerPid, 'SIGCONT')
    }
    await expect.poll(() => inGuest('one', ['cat', '/run/open']).catch(() => ''), { timeout: 60_000 }).not.toBe('')
    const came = readFindings(await inGuest('one', ['cat', '/run/open'])).map(finding => finding.came ?? '')
    expect(came[0]).toContain(`page of ${host.ip}`)
    expect(came[1]).toContain('page of 0.0.0.0')
    expect(came[2]).toContain(`page of ${LAN.host}`)
    expect(came[3]).toContain('page of 0.0.0.0')
    expect(came[4]).toContain('page of the LAN')
    expect(counted('escaped')).toBeGreaterThanOrEqual(frames().length)
    for (const port of Object.values(echoes)) {
      const [scan] = readFindings(await inGuest('one', ['cat', `/run/udp-${port}`]))
      expect(scan).toMatchObject({ open: [port], rest: { refused: expect.any(Number) } })
    }
    const [heard] = await listening
    expect(heard?.frames?.some(frame => frame.slice(12, 24) === one.mac.replaceAll(':', ''))).toBe(true)
  })
})
