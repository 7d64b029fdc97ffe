/** Attacks of people of one VM on each other's accounts, files, drives and SSH, in a real guest. SPEC §2.9, §9.4, §9.5 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect } from 'vitest'
import { driveGroupOf } from '../../protocol/control/account.ts'
import type { Vm } from '../../protocol/control/api.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { accountNameOf as nameOf, type Person } from '../support/people.ts'
import { attack } from './attack.ts'

describeGuest('people of one VM', () => {
  let machine: Machine
  const owner = () => machine.people.owner
  /** a grantee with the drive, and one without */
  const bob = () => machine.people.other
  const carl = () => machine.people.administrator
  const homeOf = (person: Person) => `/home/${nameOf(person)}`

  /** What a shell of that person prints and how it ends. */
  const sh = (person: Person, script: string, ...more: string[]) =>
    machine.mortar(person, ['exec', 'lab', ...more, '--', 'sh', '-c', script], { input: '', timeoutMs: 120_000 })
  const must = async (person: Person, script: string, ...more: string[]) => {
    const { code, stdout, stderr } = await sh(person, script, ...more)
    expect(code, `${script}\n${stdout}${stderr}`).toBe(0)
    return stdout
  }
  /** Each of the commands fails for that person, tried in one shell. */
  const expectRefused = async (person: Person, commands: readonly string[], ...more: string[]) => {
    const each = commands.map(command => `( ${command} ) >/dev/null 2>&1 </dev/null && echo 'succeeded: ${command}'`)
    expect(await must(person, `${each.join('\n')}\ntrue`, ...more)).toBe('')
  }
  const grant = (to: Person, allow: string, ...more: string[]) =>
    machine.must(owner(), ['grant', 'create', 'lab', to.identity, '--allow', allow, ...more])
  const codeOf = async (person: Person, ...args: string[]) => {
    const { code, stderr } = await machine.mortar(person, ['--json', ...args])
    return code === 0 ? null : (JSON.parse(stderr) as { error: { code: string } }).error.code
  }

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    for (const name of ['data', 'more']) await machine.addDrive(owner(), 'lab', name)
    await grant(bob(), 'exec,terminal,ssh,drives', '--drive', 'data')
    await grant(carl(), 'exec,ssh', '--drive', 'more')
  })
  afterAll(() => machine?.dispose())

  attack(
    'each person is a user of their own, whose home and programs are closed to the others',
    { tries: 3 },
    async () => {
      const [own, his] = [(await must(owner(), 'id -un')).trim(), (await must(bob(), 'id -un; id -Gn')).trim()]
      expect(own).toBe(nameOf(owner()))
      const { drives } = await machine.must<{ drives: { id: string; name: string }[] }>(owner(), ['drive', 'list'])
      const group = driveGroupOf(drives.find(({ name }) => name === 'data')?.id ?? '').name
      expect(his.split(/\s+/).sort()).toEqual([nameOf(bob()), nameOf(bob()), group].sort())
      const pid = (await must(bob(), 'umask 0; echo mine >~/file; nohup sleep 900 >/dev/null 2>&1 & echo $!')).trim()
      await expectRefused(carl(), [
        `cat ${homeOf(bob())}/file`,
        `ls ${homeOf(bob())}`,
        `echo x >>${homeOf(bob())}/.bashrc`,
        `mv ${homeOf(bob())} /home/ada`,
        `mkdir /home/ada`,
        `kill ${pid}`,
        `cat /proc/${pid}/environ`,
        `ls -l /proc/${pid}/fd/`,
        `head -c 1 /proc/${pid}/mem`,
        `cat /run/mortar-accounts/ssh/${nameOf(bob())}/host_key`,
        `ls /run/mortar-accounts/ssh/${nameOf(bob())}`,
        `ls /run/mortar-accounts/ssh`,
        `touch /run/mortar-accounts/passwd`,
        `ls /run/mortar-agent`,
      ])
      await must(bob(), `test "$(cat ~/file)" = mine && kill ${pid}`)
    },
  )

  attack(
    'a user of the VM becomes nobody else, neither by name nor by any program that is root',
    { tries: 2 },
    async () => {
      for (const user of ['root', 'daemon', nameOf(owner()), nameOf(bob())]) {
        expect((await sh(carl(), 'true', '--user', user)).stderr).toMatch(/You may not do this/)
      }
      await expectRefused(carl(), [
        'su -c true',
        `su -c true ${nameOf(bob())}`,
        'sudo -n true',
        'runuser -u root true',
        'setpriv --reuid=0 true',
        'systemd-run --wait true',
        'systemd-run --uid=0 --pipe true',
        'systemctl stop mortar-agent',
        'loginctl enable-linger',
        'newgrp root -c true',
        'mount -t tmpfs tmpfs /mnt',
        'cat /var/lib/mortar-agent/grants.json',
        'unshare --mount true',
      ])
    },
  )

  attack('a grantee gets at the drives of the grant and at no other', { tries: 2 }, async () => {
    await must(owner(), 'echo secret >/drives/more/file; echo shared >/drives/data/file; chmod 666 /drives/*/file')
    expect(
      await must(bob(), 'cat /drives/data/file && echo mine >/drives/data/of-bob && cat /drives/data/of-bob'),
    ).toBe('shared\nmine\n')
    expect(
      await must(owner(), 'echo more >>/drives/data/of-bob; cat /drives/data/of-bob; rm /drives/data/of-bob'),
    ).toBe('mine\nmore\n')
    const drive = ['ls /drives/more', 'cat /drives/more/file', 'echo x >/drives/more/x', 'cd /drives/more']
    await expectRefused(bob(), [
      ...drive,
      'chmod 777 /drives/more',
      'mv /drives/data/.mortar /drives/data/x',
      'ls /drives/data/.mortar',
    ])
    await expectRefused(carl(), ['ls /drives/data', 'cat /drives/data/file', 'setfacl -m u:0:rwx /drives/data'])
  })

  attack('a set-user-id program and a device on a drive are nothing but files', { tries: 1 }, async () => {
    await must(
      owner(),
      'cp /usr/bin/id /drives/data/id && chown root:root /drives/data/id && chmod 6755 /drives/data/id && mknod -m 666 /drives/data/disk b 253 0',
      '--user',
      'root',
    )
    expect(await must(bob(), '/drives/data/id -u; head -c 1 /drives/data/disk || echo no')).toMatch(/^\d{10}\nno\n$/)
    await must(owner(), 'rm /drives/data/id /drives/data/disk', '--user', 'root')
  })

  attack(
    'nobody writes where a drive is not mounted, root neither, after a lock and after a reboot',
    { tries: 1 },
    async () => {
      const points = [
        'touch /drives/x',
        'mkdir /drives/x',
        'mkdir -p /drives/data',
        'mkdir -p /drives/data && touch /drives/data/x',
        'ln -s /tmp /drives/data',
      ]
      await machine.must(owner(), ['drive', 'lock', 'data'])
      await expectRefused(owner(), points)
      await expectRefused(owner(), points, '--user', 'root')
      await machine.mortar(owner(), ['exec', 'lab', '--user', 'root', '--', 'systemctl', 'reboot'])
      const generation = async () =>
        (await machine.must<{ vm: Vm }>(owner(), ['vm', 'show', 'lab'])).vm.agent?.generation
      for (let tries = 0; tries < 240 && (await generation()) !== 2; tries++) await delay(1_000)
      await expectRefused(owner(), points)
      await expectRefused(owner(), [...points, 'touch /drives/data/x /drives/more/x'], '--user', 'root')
      expect(await must(owner(), 'ls -A /drives')).toBe('')
      // who lives here is known after a reboot too
      expect(await must(owner(), `stat -c %U ${homeOf(owner())} ${homeOf(bob())}`)).toBe(
        `${nameOf(owner())}\n${nameOf(bob())}\n`,
      )
    },
  )

  attack(
    'a drive that is open for writing is never said to be read-only, nor the other way round',
    { tries: 1 },
    async () => {
      await machine.must(owner(), ['drive', 'unlock', 'data'])
      expect(await codeOf(owner(), 'drive', 'unlock', 'data', '--read-only')).toBe('drive-busy')
      await must(owner(), 'echo written >/drives/data/file')
      await machine.must(owner(), ['drive', 'lock', 'data'])
      await machine.must(owner(), ['drive', 'unlock', 'data', '--read-only'])
      const writes = ['echo x >/drives/data/file', 'touch /drives/data/x', 'mount -o remount,rw /drives/data']
      await expectRefused(owner(), writes)
      await expectRefused(owner(), writes, '--user', 'root')
      expect(await must(owner(), 'cat /drives/data/file')).toBe('written\n')
      expect(await codeOf(owner(), 'drive', 'unlock', 'data')).toBe('drive-busy')
      await machine.must(owner(), ['drive', 'lock', 'data'])
      await machine.must(owner(), ['drive', 'unlock', 'data'])
    },
  )

  attack('a lock that fails says who uses the drive, ends nobody and is no success', { tries: 1 }, async () => {
    const using = spawn(
      machine.binaries.client,
      ['exec', 'lab', '--cwd', '/drives/data', '--', 'sh', '-c', 'echo $$; exec sleep 600'],
      {
        env: machine.environment(bob()),
        stdio: ['ignore', 'pipe', 'inherit'],
      },
    )
    const closed = once(using, 'close')
    const pid = await Promise.race([
      once(using.stdout, 'data').then(([said]) => String(said).trim()),
      closed.then(([code]) => Promise.reject(new Error(`the program ended with ${code}`))),
    ])
    const { code, stderr } = await machine.mortar(owner(), ['drive', 'lock', 'data'])
    expect([code, stderr]).toEqual([6, expect.stringContaining(`process ${pid} of ${nameOf(bob())}`)])
    await must(bob(), `test "$(cat /drives/data/file)" = written && kill ${pid}`)
    await closed
    await machine.must(owner(), ['drive', 'lock', 'data'])
    await machine.must(owner(), ['drive', 'unlock', 'data'])
  })

  attack(
    'nobody comes in by SSH as anybody else, and a revocation ends all that came in, the drive free',
    { tries: 1, timeoutMs: 600_000 },
    async () => {
      const ssh = (person: Person, ...args: string[]) =>
        machine.mortar(person, ['ssh', 'lab', ...args], { timeoutMs: 200_000, env: { PATH: process.env.PATH ?? '' } })
      expect((await ssh(bob(), 'id -un; (cd /drives/data && exec nohup sleep 901) >/dev/null 2>&1 &')).stdout).toBe(
        `${nameOf(bob())}\n`,
      )
      expect((await ssh(carl(), '-l', nameOf(bob()), 'id')).stderr).toMatch(/Permission denied/)
      expect((await ssh(carl(), '-l', 'root', 'id')).stderr).toMatch(/Permission denied/)
      const open = (person: Person) => {
        const child = spawn(
          machine.binaries.client,
          ['ssh', 'lab', 'echo on; setsid nohup sleep 902 >/dev/null 2>&1 & exec sleep 903'],
          {
            env: { PATH: process.env.PATH, ...machine.environment(person) },
            stdio: ['ignore', 'pipe', 'ignore'],
          },
        )
        return { child, on: once(child.stdout, 'data'), closed: once(child, 'close') }
      }
      const [his, other] = [open(bob()), open(carl())]
      await Promise.all([his.on, other.on])
      await machine.must(owner(), ['grant', 'revoke', 'lab', bob().identity])
      expect((await his.closed)[0]).not.toBe(0)
      expect(other.child.exitCode).toBeNull()
      const left = await must(owner(), `ps -o pid= -u ${nameOf(bob())} || echo none`, '--user', 'root')
      expect(left).toBe('none\n')
      await machine.must(owner(), ['drive', 'lock', 'data'])
      expect((await ssh(bob(), 'id')).code).not.toBe(0)
      other.child.kill()
      await other.closed
    },
  )
})
