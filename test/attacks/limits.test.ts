/** Who can keep others out, or fill the host: nobody. Each attack runs in a process of its own against a broker in another. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { setTimeout as sleep } from 'node:timers/promises'
import { afterAll, beforeAll, expect } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { enrolled } from '../broker/sockets.ts'
import { runProgram } from '../support/program.ts'
import { attack } from './attack.ts'
import { RigApart, startLoad } from './broker-apart.ts'
import type { Load } from './load.ts'

/** ms within which an honest user's next step is done while an attack runs, on a machine that does other things too */
const PATIENCE_MS = 30_000
/** bytes that an attack may add to the broker's memory, and ms after which it has given them back */
const MOST_GROWTH_BYTES = 64 * 2 ** 20
const GIVEN_BACK_MS = 30_000

let rig: RigApart
let key: string
let victimKey: string
let vm: Vm
const http = () => ({ host: '127.0.0.1', port: Number(new URL(rig.broker.origin).port) })
const ssh = () => ({ host: '127.0.0.1', port: Number(rig.broker.ssh?.split(':')[1]) })
const agents = () => ({ host: '127.0.0.1', port: Number(new URL(rig.broker.agents).port) })
/** addresses of this machine, as many as an attacker may have */
const manyAddresses = Array.from({ length: 200 }, (_, index) => `127.0.1.${index + 1}`)

beforeAll(async () => {
  rig = await RigApart.begin()
  const newKey = (name: string) => {
    const path = join(rig.folder, name)
    execFileSync('ssh-keygen', ['-q', '-t', 'ed25519', '-N', '', '-C', name, '-f', path])
    return path
  }
  ;[victimKey, key] = [newKey('victim'), newKey('attacker')]
  await rig.api('owner').registerSshKey(readFileSync(`${victimKey}.pub`, 'utf8').trim())
  await rig.api('other').registerSshKey(readFileSync(`${key}.pub`, 'utf8').trim())
  const launch = await rig.launch('honest')
  vm = launch.vm
  await enrolled(rig.broker.agents, launch)
})
afterAll(() => rig?.close())

const within = <T>(what: string, work: Promise<T>): Promise<T> =>
  Promise.race([work, sleep(PATIENCE_MS).then(() => Promise.reject(new Error(`${what} did not come through`)))])

/** What an honest user does meanwhile: logs in anew, waits for a change, launches, logs in at the jump host. */
async function expectHonestUserServed(number: number): Promise<void> {
  const api = new BrokerApi({ url: rig.broker.origin, identity: rig.people.owner, pins: pinsInMemory() })
  await within('the login', api.login())
  const { revision } = await within('the VM', api.vm(vm.id))
  await within('the long poll', api.vmChange(vm.id, revision, 200))
  const launched = await within('the launch', rig.launch(`during-${number}`))
  await within('the deletion', api.deleteVm(launched.vm.id))
  await within('the login at the jump host', expectSshLogin())
}

/** Logs in at the jump host and asks for a VM that is not there: refused after the login, not before. */
async function expectSshLogin(): Promise<void> {
  const { host, port } = ssh()
  const options = ['BatchMode=yes', 'StrictHostKeyChecking=no', 'UserKnownHostsFile=/dev/null', 'IdentitiesOnly=yes']
  const args = ['-p', String(port), '-i', victimKey, ...options.flatMap(option => ['-o', option])]
  const { stderr } = await runProgram('ssh', [...args, '-W', 'nobodys:22', `mortar@${host}`], {
    timeoutMs: PATIENCE_MS,
  })
  expect(stderr).toMatch(/open failed|forwarding failed/)
}

let launches = 0

/** Runs a load; an honest user is served at its height, memory stays within bounds and is given back. */
async function expectHeld(
  load: Load,
  { memory = true } = {},
): Promise<{ open: number; answered: number; refused: number }> {
  const before = rig.rssBytes
  let peak = before
  const watching = setInterval(() => {
    if (rig.alive) peak = Math.max(peak, rig.rssBytes)
  }, 100)
  const running = await startLoad(load)
  try {
    await expectHonestUserServed(launches++)
    const counts = await running.end()
    if (memory) {
      expect((peak - before) / 2 ** 20).toBeLessThan(MOST_GROWTH_BYTES / 2 ** 20)
      const growth = () => rig.rssBytes - before
      for (let waited = 0; growth() > MOST_GROWTH_BYTES / 2 && waited < GIVEN_BACK_MS; waited += 1_000)
        await sleep(1_000)
      expect(growth() / 2 ** 20).toBeLessThan(MOST_GROWTH_BYTES / 2 / 2 ** 20)
      const mib = (bytes: number) => Math.round(bytes / 2 ** 20)
      console.log(
        `${load.kind} × ${load.count}: ${mib(before)} MiB before, ${mib(peak)} at the peak, ${mib(before + growth())} after`,
      )
    }
    return counts
  } finally {
    clearInterval(watching)
    await running.end().catch(() => undefined)
  }
}

attack(
  'a flood of logins that claim a user’s key, from the same address, does not keep that user from logging in',
  { tries: 2 },
  async () => {
    const user = encodeBase64url(rig.people.owner.signKey)
    const nonce = encodeBase64url(new Uint8Array(32))
    const signature = encodeBase64url(new Uint8Array(64))
    const post = { kind: 'requests', method: 'POST', ...http(), count: 16 } as const
    await expectHeld({ ...post, path: '/v1/login/challenge', bodies: [JSON.stringify({ user })] })
    await expectHeld({ ...post, path: '/v1/login', bodies: [JSON.stringify({ user, nonce, signature })] })
  },
)

attack('hundreds of requests in one breath do not hold up anybody else’s', { tries: 2 }, async () => {
  const counts = await expectHeld({ kind: 'pipeline', path: '/v1/broker', ...http(), count: 10 }, { memory: false })
  expect(counts.answered).toBeLessThanOrEqual(10)
})

attack(
  'two thousand connections that say nothing, or never come to an end, keep nobody out and cost no memory',
  { tries: 1 },
  async () => {
    const most = { ...http(), count: 2_000 }
    for (const load of [
      { kind: 'silent', ...most },
      { kind: 'slow-header', ...most },
      { kind: 'slow-body', path: '/v1/login', ...most },
      { kind: 'slow-body', path: '/v1/drives', token: await rig.token('other'), ...most },
    ] as const) {
      expect((await expectHeld(load)).open).toBeLessThanOrEqual(512)
    }
  },
)

attack('two thousand control sockets keep nobody out and cost no memory', { tries: 1 }, async () => {
  await expectHeld({ kind: 'control', ...agents(), count: 2_000 })
  await expectHeld({ kind: 'control', vm: vm.id, ...agents(), count: 2_000 })
})

attack(
  'silent connections to the jump host, from however many addresses, keep nobody out of it',
  { tries: 2 },
  async () => {
    for (const kind of ['ssh-silent', 'ssh-key-exchange'] as const) {
      expect((await expectHeld({ kind, from: manyAddresses, ...ssh(), count: 600 })).open).toBeLessThanOrEqual(256)
      await expectHeld({ kind, ...ssh(), count: 600 })
    }
  },
)

attack('a user who logs in at the jump host again and again keeps nobody else out of it', { tries: 1 }, async () => {
  const privateKey = readFileSync(key, 'utf8')
  const { open, answered } = await expectHeld({ kind: 'ssh-idle', privateKey, ...ssh(), count: 256 })
  expect(answered).toBeGreaterThan(200)
  expect(open).toBeLessThanOrEqual(32)
})

attack('a user’s five thousand long polls keep nobody else from waiting', { tries: 1 }, async () => {
  const theirs = await rig.launch(`theirs-${launches++}`, 'other')
  const { revision } = await rig.vm(theirs.vm.id, 'other')
  const path = `/v1/vms/${theirs.vm.id}?after=${revision}`
  await expectHeld({
    kind: 'requests',
    method: 'GET',
    path,
    bodies: [],
    token: await rig.token('other'),
    ...http(),
    count: 5_000,
  })
})

attack('drives and VMs larger than what the host has left are refused, with the numbers', { tries: 1 }, async () => {
  const drive = (sizeBytes: number, name: string) =>
    rig.call('other', 'drive.create', { body: { id: crypto.randomUUID(), name, sizeBytes, note: '' } })
  // each alone would fit
  const sizes = { granted: 0, refused: '' }
  for (let number = 0; number < 90 && sizes.refused === ''; number++) {
    const { status, json } = await drive(2 ** 35, `huge-${number}`)
    if (status === 200) sizes.granted += 2 ** 35
    else sizes.refused = `${json.error.code}: ${json.error.detail}`
  }
  expect(sizes.refused).toMatch(/^no-space: \d+ MiB asked for, \d+ MiB left of \d+ MiB/)
  const [, left] = /left of (\d+) MiB/.exec(sizes.refused) ?? []
  expect(sizes.granted / 2 ** 20).toBeLessThanOrEqual(Number(left))
  for (const { id } of await rig.api('other').drives()) await rig.api('other').deleteDrive(id)

  for (const [size, words] of [
    [{ memoryMiB: 2 ** 20, vcpus: 1 }, /^\d+ MiB of memory asked for, \d+ MiB left of \d+ MiB$/],
    [{ memoryMiB: 256, vcpus: 256 }, /^256 CPUs asked for, the host has \d+$/],
  ] as const) {
    const { json } = await rig.post(rig.sign({}, 'other'), 'giant', 'other', 'stone', size)
    expect(json.error.code).toBe('host-full')
    expect(json.error.detail).toMatch(words)
  }
  await expectHonestUserServed(launches++)
})

attack('a key that its user removed opens nothing at the jump host any more, at once', { tries: 2 }, async () => {
  const load = { kind: 'ssh-idle', privateKey: readFileSync(key, 'utf8'), ...ssh(), count: 4 } as const
  const running = await startLoad(load)
  expect((await running.counts()).open).toBe(4)
  const [record] = await rig.api('other').sshKeys()
  expect(record).toMatchObject({ type: 'ssh-ed25519', name: 'attacker' })
  await rig.api('other').removeSshKey(record?.id ?? '')
  await expect.poll(async () => (await running.counts()).open, { timeout: 10_000 }).toBe(0)
  await running.end()
  const again = await startLoad(load)
  expect(await again.end()).toMatchObject({ answered: 0, refused: 4 })
  await expectHonestUserServed(launches++)
  await rig.api('other').registerSshKey(readFileSync(`${key}.pub`, 'utf8').trim())
})
