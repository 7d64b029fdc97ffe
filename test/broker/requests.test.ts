/** What one request, and one user's requests, may take of the broker. SPEC §3.3 */
import { execFileSync } from 'node:child_process'
import { randomUUID } from 'node:crypto'
import { connect } from 'node:net'
import { afterAll, beforeAll, describe, expect, test } from 'vitest'
import { requireHostRoom } from '../../broker/vms/host-room.ts'
import { Waits } from '../../broker/vms/waits.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { Rig } from './rig.ts'
import { ShiftClock } from './shift-clock.ts'

let rig: Rig
beforeAll(async () => {
  rig = await Rig.start()
})
afterAll(() => rig.close())

/** Sends bytes to the API and collects what comes until it closes. */
function exchange(text: string): Promise<string> {
  const { port } = new URL(rig.broker.origin)
  return new Promise(resolve => {
    let received = ''
    const socket = connect(Number(port), '127.0.0.1', () => socket.write(text))
    socket.on('data', chunk => {
      received += chunk
    })
    socket.on('error', () => undefined)
    socket.on('close', () => resolve(received))
  })
}
const post = (path: string, lines: readonly string[], body: string) =>
  [`POST ${path} HTTP/1.1`, 'host: x', 'content-type: application/json', ...lines, '', body].join('\r\n')

describe('a request', () => {
  test('without a login has a small body, whatever it says of its length: strangerBodyBytes', async () => {
    for (const body of ['x'.repeat(LIMITS.strangerBodyBytes + 1), JSON.stringify({ user: 'x'.repeat(60_000) })]) {
      expect((await rig.call(null, 'login.challenge', { body: new TextEncoder().encode(body) })).code).toBe(
        'limit-exceeded',
      )
    }
    const chunk = `${(LIMITS.strangerBodyBytes + 1).toString(16)}\r\n${'x'.repeat(LIMITS.strangerBodyBytes + 1)}\r\n`
    const answer = await exchange(post('/v1/login', ['transfer-encoding: chunked'], chunk))
    expect(answer).toContain('limit-exceeded')
  })

  test('with a login has a larger one, and one without the right to it is refused before it is read: bodyBytes', async () => {
    const sized = (bytes: number) => ({ body: new TextEncoder().encode(' '.repeat(bytes)) })
    expect((await rig.call('owner', 'drive.create', sized(LIMITS.bodyBytes))).code).toBe('bad-request')
    expect((await rig.call('owner', 'drive.create', sized(LIMITS.bodyBytes + 1))).code).toBe('limit-exceeded')
    // the body never comes, and is not waited for
    const answer = await exchange(post('/v1/drives', [`content-length: ${LIMITS.bodyBytes}`], '{'))
    expect(answer).toContain('login-expired')
  })

  test('whose body does not come to its end is given up: bodyMs', async () => {
    const started = Date.now()
    const token = await rig.token('owner')
    const answer = await exchange(post('/v1/drives', [`authorization: Bearer ${token}`, 'content-length: 100'], '{'))
    expect(answer).toMatch(/timeout|408/)
    expect(Date.now() - started).toBeLessThan(LIMITS.bodyMs + 10_000)
  })

  test('that comes before the answer to the last ends its connection', async () => {
    const one = 'GET /v1/broker HTTP/1.1\r\nhost: x\r\n\r\n'
    expect((await exchange(one.repeat(500))).match(/HTTP\/1\.1/g)?.length ?? 0).toBeLessThanOrEqual(1)
  })
})

test('a user who asks without pause is refused for a while, and nobody else: requestsAtOnce, requestsPerSecond', async () => {
  await rig.call('owner', 'vm.list')
  const codes: (string | undefined)[] = []
  const rounds = Math.ceil((LIMITS.requestsAtOnce + 1_000) / 50)
  for (let round = 0; round < rounds && !codes.includes('rate-limited'); round++) {
    codes.push(
      ...(await Promise.all(Array.from({ length: 50 }, async () => (await rig.call('other', 'brick.list')).code))),
    )
  }
  expect(codes).toContain('rate-limited')
  expect((await rig.call('owner', 'vm.list')).status).toBe(200)
  rig.clock.advance((1_000 * 2) / LIMITS.requestsPerSecond)
  expect((await rig.call('other', 'brick.list')).status).toBe(200)
  rig.clock.advance(60_000)
})

describe('waits for a VM to change', () => {
  test('are bounded by user: the oldest is answered early, and nobody else’s: waitsPerUser', async () => {
    const waits = new Waits(new ShiftClock())
    const done: string[] = []
    const wait = (user: string, name: string) => void waits.wait('vm', user, 600_000).then(() => done.push(name))
    wait('other', 'other')
    for (let number = 0; number <= LIMITS.waitsPerUser; number++) wait('greedy', `greedy ${number}`)
    await Promise.resolve()
    expect(done).toEqual(['greedy 0'])
    waits.wake('vm')
    await Promise.resolve()
    expect(done).toHaveLength(LIMITS.waitsPerUser + 2)
  })

  test('are bounded in all: who waits most often is answered early: waits', async () => {
    const waits = new Waits(new ShiftClock())
    const done: string[] = []
    const wait = (user: string) => void waits.wait('vm', user, 600_000).then(() => done.push(user))
    wait('honest')
    for (let number = 0; number < 2 * LIMITS.waits; number++) wait(`user ${number % 40}`)
    await Promise.resolve()
    expect(done).toHaveLength(LIMITS.waits + 1)
    expect(done).not.toContain('honest')
    waits.wake('vm')
  })
})

describe('room on the host', () => {
  const host = { memoryMiB: 4_096, cores: 2 }
  const vm = { memoryMiB: 1_024, vcpus: 1 }
  const failure = (detail: RegExp) =>
    expect.objectContaining({ code: 'host-full', message: expect.stringMatching(detail) })

  test('memory is promised once, and some is the host’s', () => {
    expect(() => requireHostRoom(host, [vm, vm], vm)).not.toThrow()
    expect(() => requireHostRoom(host, [vm, vm, vm], vm)).toThrow(
      failure(/1024 MiB of memory asked for, \d+ MiB left of 4096 MiB/),
    )
    expect(() => requireHostRoom(host, [], { ...vm, memoryMiB: 4_096 })).toThrow(failure(/left of 4096/))
  })

  test('a VM has no more CPUs than the host, and all of them no more than a number of each core', () => {
    expect(() => requireHostRoom(host, [], { memoryMiB: 256, vcpus: 3 })).toThrow(failure(/the host has 2/))
    const busy = Array.from({ length: 16 }, () => ({ memoryMiB: 1, vcpus: 2 }))
    expect(() => requireHostRoom({ ...host, memoryMiB: 2 ** 20 }, busy, vm)).toThrow(
      failure(/0 left of 32 virtual ones/),
    )
  })

  test('a launch that is one too many leaves nothing, and one fits again once another is gone', async () => {
    rig.host = { memoryMiB: 512 + 2 * 64 + 300, cores: 2 }
    await rig.restart()
    const first = await rig.launch('first')
    const { code } = await rig.post(rig.sign(), 'second')
    expect(code).toBe('host-full')
    expect((await rig.api().vms()).map(({ name }) => name)).toEqual(['first'])
    expect((await rig.call('owner', 'vm.delete', { id: first.vm.id })).status).toBe(200)
    expect((await rig.post(rig.sign(), 'second')).status).toBe(200)
  })

  test('disk is promised once: drives that are empty yet count with all that they may hold', async () => {
    const create = (name: string, sizeBytes: number) =>
      rig.call('owner', 'drive.create', { body: { id: randomUUID(), name, sizeBytes, note: '' } })
    const free = Number(execFileSync('df', ['-B1', '--output=avail', rig.dataDir], { encoding: 'utf8' }).split('\n')[1])
    const most = Math.floor((free * 0.6) / 2 ** 20) * 2 ** 20
    expect((await create('one', most)).status).toBe(200)
    const { code, json } = await create('two', most)
    expect([code, json.error.detail]).toEqual(['no-space', expect.stringMatching(/are promised to drives and VMs$/)])
    expect((await rig.api().drives()).map(({ name }) => name)).toEqual(['one'])
  })
})

describe('SSH keys of a user', () => {
  const keyOf = (number: number) => {
    const blob = Buffer.concat([Buffer.from('\0\0\0\x0bssh-ed25519\0\0\0 '), Buffer.alloc(32, number)])
    return `ssh-ed25519 ${blob.toString('base64')}`
  }

  test('are listed by name and fingerprint, and removed by their user alone', async () => {
    const added = await rig.api().registerSshKey(`${keyOf(1)} the laptop`)
    expect(added).toMatchObject({ name: 'the laptop', type: 'ssh-ed25519' })
    expect(added.fingerprint).toMatch(/^SHA256:[A-Za-z0-9+/]{43}$/)
    expect(await rig.api().sshKeys()).toEqual([added])
    expect(await rig.api('other').sshKeys()).toEqual([])
    expect((await rig.call('other', 'ssh.remove', { id: added.id })).code).toBe('not-found')
    expect((await rig.call('administrator', 'ssh.remove', { id: added.id })).code).toBe('not-found')
    await rig.api().removeSshKey(added.id)
    expect(await rig.api().sshKeys()).toEqual([])
    expect((await rig.call('owner', 'ssh.remove', { id: added.id })).code).toBe('not-found')
  })

  test('are so many and no more, and a removed one makes room: sshKeysPerUser', async () => {
    for (let number = 0; number < LIMITS.sshKeysPerUser; number++) await rig.api().registerSshKey(keyOf(number))
    await expect(rig.api().registerSshKey(keyOf(99))).rejects.toMatchObject({ code: 'limit-exceeded' })
    // the same again is no more
    await rig.api().registerSshKey(`${keyOf(0)} named`)
    const [first] = await rig.api().sshKeys()
    expect(first?.name).toBe('named')
    await rig.api().removeSshKey(first?.id ?? '')
    await rig.api().registerSshKey(keyOf(99))
    await rig.api('other').registerSshKey(keyOf(1))
  })
})
