/** The broker's network on a real host, with a namespace for a VM: its filter, its watch, and how it comes and goes. */
import { execFileSync, spawnSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { createServer, type Server } from 'node:http'
import { afterEach, beforeEach, expect, test } from 'vitest'
import type { Address } from '../../broker/config.ts'
import { IsolatedNetwork } from '../../broker/network/isolated-network.ts'
import { AGENT_PORT, type NetworkPlan, parseSubnet, placeOf, planNetwork } from '../../broker/network/plan.ts'
import { UserNetwork } from '../../broker/network/user-network.ts'
import { FakeHypervisor } from '../support/fake-hypervisor.ts'
import { describeUnless, missingOf, needsRoot } from '../support/possible.ts'
import { type Finding, PROBE, PROBE_TEXT, readFindings } from '../support/probe.ts'
import { runProgram } from '../support/program.ts'

const whyNot = needsRoot('to make a bridge') ?? missingOf({ '/usr/sbin/nft': 'nftables', perl: 'perl', ip: 'iproute2' })
const run = (command: string, ...args: string[]) => execFileSync(command, args, { encoding: 'utf8', stdio: 'pipe' })

let plan: NetworkPlan
const events: { event: string; fields: object }[] = []
const servers: Server[] = []
const cleanUp: (() => unknown)[] = []
const write = (event: string, fields: object = {}) => void events.push({ event, fields })
const log = { info: write, warn: write, error: write }

beforeEach(() => {
  plan = planNetwork(new Uint8Array(randomBytes(32)))
  events.length = 0
})
afterEach(async () => {
  for (const step of cleanUp.splice(0).reverse()) await step()
  for (const server of servers.splice(0)) await new Promise(resolve => server.close(resolve))
})

/** A page server whose page is its address. */
async function serve(host: string, port = 0): Promise<Address> {
  const server = createServer((_request, response) => response.end(`page of ${host}`))
  servers.push(server)
  await new Promise<void>(resolve => server.listen(port, host, resolve))
  return { host, port: (server.address() as { port: number }).port }
}

async function up(network: IsolatedNetwork | UserNetwork): Promise<void> {
  cleanUp.push(() => network.close(false))
  await network.start(({ host, port }) => serve(host, port))
}

const isolated = () => new IsolatedNetwork({ plan, driver: new FakeHypervisor(), log, agentListen: undefined })
const onLoopback = { host: '127.0.0.1', port: 0 }
const user = () => new UserNetwork({ plan, driver: new FakeHypervisor(), log, agentListen: onLoopback })

/** A namespace with a port of the bridge, as a VM has one; returns what makes attempts from within. */
function plugIn(): (...attempts: string[]) => Promise<Finding[]> {
  const space = `${plan.name}-vm`
  const port = `mtr${plan.name.slice(-8)}`
  const { address, macAddress } = placeOf(plan, 2)
  run('ip', 'netns', 'add', space)
  cleanUp.push(() => run('ip', 'netns', 'delete', space))
  run('ip', 'link', 'add', port, 'type', 'veth', 'peer', 'name', 'eth0', 'address', macAddress, 'netns', space)
  run('ip', 'link', 'set', port, 'master', plan.name, 'up')
  run('bridge', 'link', 'set', 'dev', port, 'isolated', 'on')
  run('ip', '-n', space, 'address', 'add', `${address}/20`, 'dev', 'eth0')
  run('ip', '-n', space, 'link', 'set', 'eth0', 'up')
  run('ip', '-n', space, 'route', 'add', 'default', 'via', plan.address)
  return (...attempts) => probe('ip', ['netns', 'exec', space, 'perl', PROBE, ...attempts])
}

/** Not by run(), since the pages are served by this process. */
async function probe(command: string, args: readonly string[]): Promise<Finding[]> {
  const { code, stdout, stderr } = await runProgram(command, args)
  if (code !== 0) throw new Error(`the probe ended with ${code}: ${stderr}`)
  return readFindings(stdout)
}

const pageOf = (finding: Finding | undefined) => /page of (\S+)/.exec(finding?.came ?? '')?.[1]

describeUnless(whyNot, 'the isolated network', () => {
  test('lets a port reach the agent listener alone; without its filter the port reaches much more', async () => {
    const network = isolated()
    await up(network)
    const elsewhere = await serve(plan.address)
    const everywhere = await serve('0.0.0.0')
    const attempt = plugIn()
    const targets = [
      `tcp:${plan.address}:${AGENT_PORT}`,
      `tcp:${plan.address}:${elsewhere.port}`,
      `tcp:${plan.address}:${everywhere.port}`,
    ]
    expect((await attempt(...targets)).map(pageOf)).toEqual([plan.address, undefined, undefined])
    const [scan] = await attempt(`scan:${plan.address}:${AGENT_PORT - 900}:${AGENT_PORT + 900}`)
    expect(scan?.open).toEqual([AGENT_PORT])
    // the same attempts, so that they are known to be able to succeed
    run('nft', 'delete', 'table', 'inet', plan.name)
    expect((await attempt(...targets)).map(pageOf)).toEqual([plan.address, plan.address, '0.0.0.0'])
    // and what was removed is back, before the next VM starts
    await network.requireUp()
    expect((await attempt(...targets)).map(pageOf)).toEqual([plan.address, undefined, undefined])
  })

  test('mends by itself what somebody takes away: its filter, and its bridge', async () => {
    await up(isolated())
    run('nft', 'delete', 'table', 'inet', plan.name)
    await expect.poll(() => spawnSync('nft', ['list', 'table', 'inet', plan.name]).status).toBe(0)
    run('ip', 'link', 'delete', plan.name)
    await expect.poll(() => existsSync(`/sys/class/net/${plan.name}`)).toBe(true)
    // one look may find both
    await expect.poll(() => events.length).toBeGreaterThan(0)
    expect(new Set(events.map(({ event }) => event))).toEqual(new Set(['network.mended']))
    // who listens at the bridge's address goes on where it comes back
    const [finding] = await plugIn()(`tcp:${plan.address}:${AGENT_PORT}`)
    expect(pageOf(finding)).toBe(plan.address)
  })

  test('starts no VM beside a port that is not isolated', async () => {
    const network = isolated()
    await up(network)
    plugIn()
    await network.requireUp()
    const port = `mtr${plan.name.slice(-8)}`
    run('bridge', 'link', 'set', 'dev', port, 'isolated', 'off')
    const failure = expect.objectContaining({ code: 'network-unusable', detail: `its port ${port} is not isolated` })
    await expect(network.requireUp()).rejects.toEqual(failure)
  })

  test('is not made over addresses that the host reaches otherwise, and says how it reaches them', async () => {
    plan = planNetwork(new Uint8Array(randomBytes(32)), parseSubnet('198.51.96.0/20'))
    run('ip', 'link', 'add', 'mtrother', 'type', 'bridge')
    cleanUp.push(() => run('ip', 'link', 'delete', 'mtrother'))
    run('ip', 'address', 'add', '198.51.100.1/24', 'dev', 'mtrother')
    run('ip', 'link', 'set', 'mtrother', 'up')
    await expect(up(isolated())).rejects.toEqual(
      expect.objectContaining({
        code: 'network-unusable',
        detail: expect.stringMatching(/198\.51\.100\.0\/24 by mtrother.*set subnet/),
      }),
    )
    expect(existsSync(`/sys/class/net/${plan.name}`)).toBe(false)
  })

  test('stays as it is for VMs that are left, is taken up again, and goes with the last of them', async () => {
    const first = isolated()
    await first.start(({ host, port }) => serve(host, port))
    cleanUp.push(() => first.close(false))
    const attempt = plugIn()
    await first.close(true)
    expect((await attempt(`tcp:${plan.address}:${AGENT_PORT}`)).map(pageOf)).toEqual([plan.address])
    const next = isolated()
    await next.start(async address => address)
    await next.requireUp()
    await next.close(false)
    expect(existsSync(`/sys/class/net/${plan.name}`)).toBe(false)
    expect(spawnSync('nft', ['list', 'table', 'inet', plan.name]).status).not.toBe(0)
  })
})

describeUnless(whyNot, 'user networking', () => {
  /** Attempts of a process that runs as QEMU of a slot would. */
  const attemptAs = (slot: number, ...attempts: string[]) => {
    const uid = String(placeOf(plan, slot).uid)
    return probe('setpriv', ['--reuid', uid, '--regid', uid, '--clear-groups', 'perl', '-e', PROBE_TEXT, ...attempts])
  }

  test('holds QEMU to the agent listener, as the user it runs as; without its filter it reaches much more', async () => {
    const network = user()
    await up(network)
    const { port } = new URL(network.origin)
    const other = await serve('127.0.0.1')
    const six = await serve('::1')
    const targets = [`tcp:127.0.0.1:${port}`, `tcp:127.0.0.1:${other.port}`, `tcp:[::1]:${six.port}`]
    for (const slot of [2, 4095]) {
      expect((await attemptAs(slot, ...targets)).map(pageOf)).toEqual(['127.0.0.1', undefined, undefined])
    }
    run('nft', 'delete', 'table', 'inet', plan.name)
    expect((await attemptAs(2, ...targets)).map(pageOf)).toEqual(['127.0.0.1', '127.0.0.1', '::1'])
    await network.requireUp()
    expect((await attemptAs(2, ...targets)).map(pageOf)).toEqual(['127.0.0.1', undefined, undefined])
  })

  test('leaves alone what the host says by itself: a port without a listener refuses at once', async () => {
    await up(user())
    const { port } = await serve('127.0.0.1')
    await new Promise(resolve => servers.pop()?.close(resolve))
    const patience = { signal: AbortSignal.timeout(5_000) }
    const refusal = await fetch(`http://127.0.0.1:${port}`, patience).catch((error: Error) => error.cause ?? error)
    expect(refusal).toMatchObject({ code: 'ECONNREFUSED' })
  })

  test('takes agents on 127.0.0.1 and nowhere else', async () => {
    const network = new UserNetwork({
      plan,
      driver: new FakeHypervisor(),
      log,
      agentListen: { host: '127.0.0.2', port: 0 },
    })
    await expect(up(network)).rejects.toEqual(expect.objectContaining({ code: 'bad-config' }))
  })
})
