/** The agent's hands in the guest: programs, users, exits, SSH keys, block devices, the clock, swap. SPEC §9 */
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { listDevices, mountOf } from '../../agent/guest/block-devices.ts'
import type { Runner } from '../../agent/guest/runner.ts'
import type { Runners } from '../../agent/guest/runners.ts'
import { SshAccess } from '../../agent/guest/ssh-access.ts'
import { authorizedKeys } from '../../agent/guest/ssh-door.ts'
import { hasSwapOnDisk } from '../../agent/guest/swap.ts'
import { escapeDollars } from '../../agent/guest/tool-as-root.ts'
import { findUser, parseUser } from '../../agent/guest/users.ts'
import { clock } from '../../agent/process/clock.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { endRunners, newRunners } from '../support/runners.ts'
import { transportPair } from '../support/transport-pair.ts'

let folder: string
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-guest-'))
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const user = { name: 'ada', uid: 1000, gid: 1000, home: '/home/ada', shell: '/bin/sh', groups: [1000, 50] }

describe('programs', () => {
  let runners: Runners
  beforeEach(() => {
    runners = newRunners(folder)
  })
  afterEach(async () => {
    await runners.close()
    await endRunners(folder)
  })
  const me = findUser(userInfo().username)
  const put = (name: string, content: string, mode: number) => {
    writeFileSync(join(folder, name), content)
    chmodSync(join(folder, name), mode)
    return join(folder, name)
  }
  const run = async (argv: string[], more: { cwd?: string; env?: Record<string, string> } = {}) => {
    const running = await runners.run({ argv, user: me, grantee: null, env: {}, ...more })
    running.stderr.resume()
    let out = ''
    for await (const chunk of running.stdout) out += String(chunk)
    return { out, ...(await running.exited) }
  }

  test('are found on the path and below the working directory, and a script needs no interpreter line', async () => {
    put('tool', 'echo "$0 $1"\n', 0o755)
    const env = { PATH: `${folder}:/usr/bin:/bin` }
    expect(await run(['tool', 'x'], { env })).toMatchObject({ out: `${folder}/tool x\n`, code: 0 })
    expect(await run(['./tool', 'y'], { cwd: folder })).toMatchObject({ out: './tool y\n', code: 0 })
  })

  test.each([
    ['absent', 'exec-not-found', () => 'no-such'],
    ['below a file', 'exec-not-found', () => '/etc/passwd/x'],
    ['not executable', 'exec-failed', () => put('plain', 'x', 0o644)],
    ['a directory', 'exec-failed', () => '/etc/'],
    ['no name at all', 'exec-not-found', () => ''],
  ])('%s: %s', async (_name, code, make) => {
    await expect(run([make()])).rejects.toMatchObject({ code })
  })

  test.each(['/no/such', '/etc/passwd', '/tmp\nUser=root'])('a working directory that is none: %j', async cwd => {
    await expect(run(['true'], { cwd })).rejects.toMatchObject({ code: 'directory-unknown' })
  })

  test('a runner that dies ends its own programs with runner-lost, and the next program has another', async () => {
    const running = await runners.run({
      argv: ['sh', '-c', 'sleep 0.3; kill -KILL $PPID; sleep 100'],
      user: me,
      grantee: null,
      env: {},
    })
    await expect(running.exited).rejects.toMatchObject({ code: 'runner-lost' })
    expect(await run(['echo', 'on'])).toMatchObject({ out: 'on\n', code: 0 })
  })
})

test('users come with their home, shell and all their groups', () => {
  const passwd = 'root:x:0:0:root:/root:/bin/bash\nada:x:1000:1001:Ada,,,:/home/ada:/bin/zsh\nbad:x:one:1::/:\n'
  const group = 'disk:x:6:ada\naudio:x:29:bob,ada\nnone:x:30:adam\n'
  expect(parseUser('ada', passwd, group)).toEqual({
    name: 'ada',
    uid: 1000,
    gid: 1001,
    home: '/home/ada',
    shell: '/bin/zsh',
    groups: [1001, 6, 29],
  })
  expect(parseUser('bad', passwd, group)).toBeNull()
  expect(parseUser('Ada', passwd, group)).toBeNull()
})

test('arguments of the system’s tools reach them as they are', () => {
  expect(escapeDollars('$HOME $$ a')).toBe('$$HOME $$$$ a')
})

test('authorised keys expire in UTC', () => {
  const expires = Date.UTC(2030, 0, 2, 3, 4, 5)
  expect(authorizedKeys([{ key: 'ssh-ed25519 AAAA', expires }], false)).toBe(
    'expiry-time="20300102030405Z" ssh-ed25519 AAAA\n',
  )
  expect(authorizedKeys([{ key: 'ssh-ed25519 AAAA', expires }], true)).toBe(
    'expiry-time="20300102030405Z",no-port-forwarding ssh-ed25519 AAAA\n',
  )
})

describe('block devices', () => {
  const serial = '0123456789abcdef0123'
  const device = (name: string, files: Record<string, string | Uint8Array>) => {
    mkdirSync(join(folder, 'block', name, 'device'), { recursive: true })
    mkdirSync(join(folder, 'dev'), { recursive: true })
    writeFileSync(join(folder, 'dev', name), '')
    for (const [path, content] of Object.entries(files)) writeFileSync(join(folder, 'block', name, path), content)
  }

  test('are found by serial on SCSI and virtio, others are none of ours', () => {
    const page = Buffer.concat([Buffer.from([0, 0x80, 0, 20]), Buffer.from(serial)])
    device('sda', { 'device/vpd_pg80': page, size: '131072\n' })
    device('vdb', { serial: serial.replace('0', 'f'), size: '8\n' })
    device('vda', { serial: 'root', size: '8\n' })
    device('loop0', { size: '0\n' })
    expect(listDevices(folder, join(folder, 'dev'))).toEqual([
      { serial, path: join(folder, 'dev/sda'), sizeBytes: 64 * 2 ** 20 },
      { serial: serial.replace('0', 'f'), path: join(folder, 'dev/vdb'), sizeBytes: 4096 },
    ])
  })

  test('mount points are read as the kernel writes them', () => {
    const line = '36 35 98:0 / /drives/my\\040data rw,noatime shared:1 - ext4 /dev/mapper/mortar-1 rw'
    const mount = { mountPoint: '/drives/my data', device: '98:0', readOnly: false }
    expect(mountOf('/dev/mapper/mortar-1', `1 2 3 / / rw - ext4 /dev/vda rw\n${line}\n`)).toEqual(mount)
    expect(mountOf('/dev/mapper/mortar-2', line)).toBeNull()
    // either the mount or the file system may be read-only
    for (const changed of [line.replace('rw,noatime', 'ro,noatime'), line.replace(/rw$/, 'ro')]) {
      expect(mountOf('/dev/mapper/mortar-1', changed)).toEqual({ ...mount, readOnly: true })
    }
  })
})

test('time goes on evenly while the clock of the guest is set', () => {
  const before = clock.now()
  const setClock = vi.spyOn(Date, 'now').mockReturnValue(before + 3_600_000)
  expect(clock.now() - before).toBeLessThan(1_000)
  setClock.mockRestore()
})

const owner = { grantee: null, endsMs: null }
/** of a call that goes on */
const going = new AbortController().signal

test.skipIf(!existsSync('/usr/sbin/sshd'))('one user cannot fill the memory with SSH keys', async () => {
  const access = new SshAccess(newRunners(folder), join(folder, 'ssh'))
  const key = (i: number) => `ssh-ed25519 ${'A'.repeat(60)}${100 + i}`
  for (let i = 0; i < LIMITS.sshKeysEach; i++) await access.authorise(user, key(i), 60, owner, going)
  await expect(access.authorise(user, 'ssh-ed25519 AAAA', 60, owner, going)).rejects.toMatchObject({
    code: 'limit-exceeded',
  })
  // one that is known may be prolonged
  await access.authorise(user, key(0), 120, owner, going)
  expect(readFileSync(join(folder, 'ssh/ada/authorized_keys'), 'utf8').trim().split('\n')).toHaveLength(
    LIMITS.sshKeysEach,
  )
  // nor does the one hold up another
  const bob = { ...user, name: 'bob' }
  await access.authorise(bob, key(0), 60, { grantee: 'B', endsMs: Date.now() + 60_000 }, going)
  access.withdraw('B')
})

test('swap on a disk is swap, compressed memory is not', () => {
  const heading = 'Filename\t\t\t\tType\t\tSize\t\tUsed\t\tPriority\n'
  const zram = '/dev/zram0                              partition\t1024\t0\t100\n'
  expect([heading, heading + zram].map(hasSwapOnDisk)).toEqual([false, false])
  expect(hasSwapOnDisk(`${heading}${zram}/swapfile  file\t1024\t0\t-2\n`)).toBe(true)
})
test.skipIf(!existsSync('/usr/sbin/sshd'))(
  "a grantee's SSH keys end with the grant, and the owner's stay",
  async () => {
    const access = new SshAccess(newRunners(folder), join(folder, 'ssh'))
    const kept = (name: string) => {
      const path = join(folder, 'ssh', name, 'authorized_keys')
      return existsSync(path) ? readFileSync(path, 'utf8') : ''
    }
    const endsMs = Date.now() + 6_000
    await access.authorise(user, 'ssh-ed25519 AAAA', 600, owner, going)
    for (const grantee of ['B', 'C']) {
      await access.authorise({ ...user, name: grantee }, 'ssh-ed25519 AAAA', 600, { grantee, endsMs }, going)
    }
    const until = /expiry-time="(\d{8})(\d{6})Z",no-port-forwarding/.exec(kept('B'))
    expect(until?.[2]).toBe(new Date(endsMs).toISOString().replace(/\D/g, '').slice(8, 14))
    access.withdraw('B')
    access.withdraw('nobody')
    expect([access.authorised('B'), access.authorised('C')]).toEqual([false, true])
    expect(kept('B')).toBe('')
    await expect.poll(() => access.authorised('C')).toBe(false)
    expect(kept('C')).toBe('')
    expect(kept('ada')).not.toMatch(/no-port-forwarding/)
    expect(access.authorised(null)).toBe(true)
  },
)

test.skipIf(!existsSync('/usr/sbin/sshd'))(
  'a withdrawal ends the connections of that grantee and of nobody else',
  async () => {
    // what serves a connection stays until it is ended
    const started: string[] = []
    const runners = newRunners(folder)
    const run: Runner['run'] = async program => {
      const running = await runners.run({ ...program, argv: ['sleep', '60'] })
      started.push(program.user.name)
      return running
    }
    const access = new SshAccess({ run } as Runner, join(folder, 'ssh'))
    const endsMs = Date.now() + 600_000
    const served: Promise<string>[] = []
    for (const grantee of ['B', 'C']) {
      await access.authorise({ ...user, uid: 0, name: grantee }, 'ssh-ed25519 AAAA', 600, { grantee, endsMs }, going)
      const [, mine] = transportPair()
      served.push(access.serve(mine, grantee).then(() => grantee))
    }
    await expect.poll(() => started.toSorted()).toEqual(['B', 'C'])
    await new Promise(setImmediate)
    access.withdraw('B')
    expect(await Promise.race(served)).toBe('B')
    const others = Promise.race([served[1], new Promise(resolve => setTimeout(resolve, 200, 'still there'))])
    expect(await others).toBe('still there')
    access.withdraw('C')
    await served[1]
    const [, mine] = transportPair()
    await expect(access.serve(mine, 'B')).rejects.toMatchObject({ code: 'ssh-not-authorised' })
    await runners.close()
    await endRunners(folder)
  },
)

test('what only one person may read of SSH is readable by that person and by root', async () => {
  const access = new SshAccess(newRunners(folder), join(folder, 'ssh'))
  await access.authorise(user, 'ssh-ed25519 AAAA', 600, owner, going)
  const accessTo = (name: string) => {
    const { uid, gid, mode } = statSync(join(folder, 'ssh/ada', name))
    return [uid, gid, (mode & 0o777).toString(8)]
  }
  expect(accessTo('.')).toEqual([0, user.gid, '750'])
  for (const name of ['host_key', 'sshd_config', 'authorized_keys'])
    expect(accessTo(name)).toEqual([0, user.gid, '640'])
  expect(authorizedKeys([], true)).toBe('')
})
