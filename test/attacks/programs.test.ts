/** A grantee's programs in a real VM: what they cannot reach, and that nothing of them outlives the grant. SECURITY U31 to U36 */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, beforeEach, expect } from 'vitest'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { attack } from './attack.ts'

describeGuest('programs', () => {
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    await machine.must(owner(), ['drive', 'create', 'data', '--size', '32M'])
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
    await machine.must(owner(), ['drive', 'unlock', 'data', '--format'])
    await root('chmod 1777 /drives/data')
  })
  afterAll(() => machine?.dispose())
  beforeEach(() => machine.must(owner(), ['grant', 'create', 'lab', other().identity, '--allow', 'exec']))

  const owner = () => machine.people.owner
  const other = () => machine.people.other
  const root = (script: string) => machine.inVm(owner(), 'lab', ['sh', '-c', script], { user: 'root' })
  const theirs = (script: string) => machine.inVm(other(), 'lab', ['sh', '-c', script])
  const outcome = (...args: string[]) => machine.mortar(other(), ['--json', 'exec', 'lab', ...args])
  const codeOf = async (...args: string[]) =>
    (JSON.parse((await outcome(...args)).stderr) as { error: { code: string } }).error.code
  const revoke = () => machine.must(owner(), ['grant', 'revoke', 'lab', other().identity])
  const count = async (pattern: string) => Number(await root(`pgrep -c -f '${pattern}' || true`))

  attack('a grantee with exec alone does not become root by the environment of a program', { tries: 2 }, async () => {
    await theirs(
      'mkdir -p /tmp/bin; printf "#!/bin/sh\\nid -u >>/tmp/who\\n" | tee /tmp/bin/systemctl >/tmp/bin/true; chmod +x /tmp/bin/*',
    )
    for (const status of ['0', '203', '217']) {
      const environment = [
        '--env',
        'PATH=/tmp/bin:/usr/bin:/bin',
        '--env',
        'EXIT_STATUS=203',
        '--env',
        'BASH_ENV=/tmp/bin/true',
      ]
      await outcome(...environment, '--', 'sh', '-c', `exit ${status}`)
    }
    await delay(500)
    expect(await root('grep -x 0 /tmp/who || echo nobody')).toBe('nobody\n')
  })

  attack('a file that is swapped for a FIFO hangs nobody but its own program', { tries: 8 }, async number => {
    if (number === 0) {
      const swap = 'cd /tmp; mkfifo f; cp /bin/true t; while :; do ln -sf f x; ln -sf t x; done'
      await theirs(`nohup sh -c '${swap}' >/dev/null 2>&1 & sleep 0.5`)
    }
    const { code } = await machine.mortar(other(), ['exec', 'lab', '--', '/tmp/x'], { timeoutMs: 60_000 })
    expect([0, 126, 127]).toContain(code)
    if (number === 7) await revoke()
  })

  attack('a grantee does not learn which paths exist that only root may see', { tries: 1 }, async () => {
    await root('mkdir -p /root/there; cp /bin/true /root/there/program; printf x >/root/there/file')
    const codes = []
    for (const path of ['/root/there/program', '/root/there/file', '/root/none'])
      codes.push(await codeOf('--', path), await codeOf('--cwd', path, '--', 'true'))
    codes.push(await codeOf('--cwd', '/root/there', '--', 'true'))
    expect(new Set(codes.filter((_, i) => i % 2 === 0)).size, codes.join()).toBeLessThanOrEqual(2)
    expect(codes).toEqual([...Array(3).fill(['exec-failed', 'directory-unknown']).flat(), 'directory-unknown'])
  })

  attack('a line break in a working directory or a variable sets nothing of a unit', { tries: 2 }, async () => {
    expect(await codeOf('--cwd', '/tmp\nUser=root\nX=', '--', 'id', '-u')).toBe('directory-unknown')
    const { stdout } = await outcome('--env', 'A=b"\nUser=root\n', '--', 'sh', '-c', 'id -un; echo "$A"')
    expect(JSON.parse(stdout).stdout).toBe('researcher\nb"\nUser=root\n\n')
  })

  attack('nothing that a grantee started outlives the grant, and no drive stays busy', { tries: 2 }, async () => {
    const mark = '7654'
    await theirs(`
      cd /drives/data
      nohup sleep ${mark} >/dev/null 2>&1 &
      setsid sleep ${mark} >/dev/null 2>&1 </dev/null &
      (setsid sh -c "(sleep ${mark} &) &" >/dev/null 2>&1 </dev/null &)
      printf '#!/bin/sh\\nsleep 0.05\\nsetsid /tmp/loop${mark} &\\n' >/tmp/loop${mark}
      chmod +x /tmp/loop${mark}
      for i in 1 2 3 4 5; do setsid /tmp/loop${mark} >/dev/null 2>&1 </dev/null & done
      systemd-run --user sleep ${mark} 2>/dev/null
      systemd-run sleep ${mark} 2>/dev/null
      loginctl enable-linger 2>/dev/null
      echo sleep ${mark} | at now 2>/dev/null
      echo '* * * * * sleep ${mark}' | crontab - 2>/dev/null
      busctl call org.freedesktop.systemd1 /org/freedesktop/systemd1 org.freedesktop.systemd1.Manager StartTransientUnit 'ssa(sv)a(sa(sv))' x.service fail 0 0 2>/dev/null
      echo $$ >/sys/fs/cgroup/cgroup.procs 2>/dev/null
      mkdir /sys/fs/cgroup/mine 2>/dev/null
      sleep 0.5`)
    expect(await count(`sleep ${mark}`)).toBeGreaterThanOrEqual(3)
    const started = performance.now()
    await revoke()
    console.log(`revoked in ${Math.round(performance.now() - started)} ms`)
    expect(await count(mark)).toBe(0)
    await machine.must(owner(), ['drive', 'lock', 'data'])
    await machine.must(owner(), ['drive', 'unlock', 'data'])
  })

  attack('an agent that is killed loses no byte and no exit of a program', { tries: 2 }, async number => {
    const client = spawn(
      machine.binaries.client,
      ['exec', 'lab', '--', 'sh', '-c', 'seq 1 60000; sleep 8; seq 60001 90000; exit 7'],
      {
        env: machine.environment(owner()),
      },
    )
    const output: Buffer[] = []
    client.stdout.on('data', chunk => output.push(chunk))
    client.stderr.resume()
    const ended = once(client, 'close')
    await once(client.stdout, 'data')
    const signal = number === 0 ? 'KILL' : 'TERM'
    await machine.mortar(owner(), [
      'exec',
      'lab',
      '--user',
      'root',
      '--',
      'systemctl',
      'kill',
      '-s',
      signal,
      'mortar-agent',
    ])
    expect((await ended)[0]).toBe(7)
    const expected = Array.from({ length: 90_000 }, (_, i) => `${i + 1}\n`).join('')
    expect(Buffer.concat(output).toString() === expected).toBe(true)
  })

  attack('streams are pipes that programs can open again, and there are no others', { tries: 1 }, async () => {
    const { stdout } = await outcome(
      '--',
      'sh',
      '-c',
      'echo x >/dev/stderr; cat /dev/stdin; tar cf /dev/stdout -C /etc hostname | tar tf -; ls /proc/self/fd | tr "\\n" " "',
    )
    expect(JSON.parse(stdout)).toMatchObject({ code: 0, stderr: 'x\n', stdout: 'hostname\n0 1 2 3 ' })
  })
})
