/** A grantee's programs in a real VM: what they cannot reach, and that nothing of them outlives the grant. SECURITY U31 to U36 */
import { setTimeout as delay } from 'node:timers/promises'
import { afterAll, beforeAll, expect } from 'vitest'
import { nodeHost } from '../../client/node/host.ts'
import { startDetached } from '../../client/programs/detached.ts'
import { collectProgram, type ExecParams, runProgram } from '../../client/programs/exec.ts'
import { openTerminal } from '../../client/programs/terminal.ts'
import { connectGrantedVm } from '../../client/sessions/connect.ts'
import { openLasting } from '../../client/sessions/lasting-session.ts'
import { findVm } from '../../client/vms/vm.ts'
import type { MortarError } from '../../protocol/core/errors.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { accountNameOf } from '../support/people.ts'
import { handsOf, sessionWith } from '../support/person.ts'
import { attack } from './attack.ts'

describeGuest('programs', () => {
  let machine: Machine
  let ours: ClientSession
  let theirs: ClientSession

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    await machine.must(owner(), ['drive', 'create', 'data', '--size', '32M'])
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
    await machine.must(owner(), ['drive', 'unlock', 'data', '--format'])
    const person = await handsOf(machine, owner())
    ours = await openLasting({ host: nodeHost, connect: () => sessionWith(person, 'lab') })
    await root('chmod 1777 /drives/data')
    await letIn()
  })
  afterAll(async () => {
    theirs?.close()
    ours?.close()
    await machine?.dispose()
  })

  const owner = () => machine.people.owner
  const other = () => machine.people.other

  /** Grants the other person what starts programs, and has them connect. */
  async function letIn(allow = 'exec') {
    await machine.must(owner(), ['grant', 'create', 'lab', other().identity, '--allow', allow])
    const { broker, identity } = await handsOf(machine, other())
    theirs = (await connectGrantedVm(broker, identity, nodeHost, await findVm(broker, 'lab'))).session
  }

  const text = (bytes: Uint8Array) => Buffer.from(bytes).toString()
  async function run(session: ClientSession, params: ExecParams) {
    const { stdout, stderr, ...exit } = await collectProgram(session, params)
    return { ...exit, out: text(stdout), err: text(stderr) }
  }
  const sh = (session: ClientSession, script: string, more: Partial<ExecParams> = {}) =>
    run(session, { argv: ['sh', '-c', script], ...more })
  const root = async (script: string) => (await sh(ours, script, { user: 'root' })).out
  const codeOf = (params: ExecParams) =>
    run(theirs, params).then(
      () => 'none',
      (error: MortarError) => error.code,
    )

  attack(
    'a grantee with exec alone does not become root by the environment of a program',
    { tries: 5 },
    async number => {
      if (number === 0) {
        const program = 'printf "#!/bin/sh\\nid -u >>/tmp/who\\n"'
        await sh(
          theirs,
          `mkdir /tmp/bin; ${program} | tee /tmp/bin/systemctl >/tmp/bin/true; chmod +x /tmp/bin/*; touch /tmp/who`,
        )
      }
      const env = {
        PATH: '/tmp/bin:/usr/bin:/bin',
        EXIT_STATUS: '203',
        BASH_ENV: '/tmp/bin/true',
        LD_PRELOAD: '/tmp/bin/true',
      }
      await sh(theirs, 'exit 203', { env }).catch(() => undefined)
      await delay(300)
      expect(await root('cat /tmp/who | grep -x 0 || echo nobody')).toBe('nobody\n')
    },
  )

  attack('a file that is swapped for a FIFO hangs nobody but its own program', { tries: 36 }, async number => {
    if (number === 0) {
      const swap =
        'cd /tmp; mkfifo f; cp /bin/true t; while sleep 0.01; do ln -sf f x; ln -sf t x; ln -sf f x; ln -sf t x; done'
      await sh(theirs, `nohup sh -c '${swap}' >/dev/null 2>&1 & sleep 1`)
    }
    // a program that the FIFO is given to as a script waits for it, and is ended by who asked for it
    const call = run(theirs, { argv: ['/tmp/x'] }).catch((error: MortarError) => error.code)
    const ended = await Promise.race([call, delay(10_000)])
    if (ended === undefined) expect((await sh(theirs, 'echo on')).out).toBe('on\n')
  })

  attack('a grantee does not learn which paths exist that only root may see', { tries: 3 }, async number => {
    if (number === 0) await root('mkdir -p /root/there; cp /bin/true /root/there/program; echo x >/root/there/file')
    const paths = ['/root/there/program', '/root/there/file', '/root/there', '/root/none', '/var/lib/mortar-agent/x']
    for (const path of paths) {
      expect(await codeOf({ argv: [path] }), path).toBe('exec-failed')
      expect(await codeOf({ argv: ['true'], cwd: path }), path).toBe('directory-unknown')
    }
  })

  attack('a line break in a working directory or a variable sets nothing of a unit', { tries: 2 }, async () => {
    expect(await codeOf({ argv: ['id', '-u'], cwd: '/tmp\nUser=root\nX=' })).toBe('directory-unknown')
    const env = { A: 'b"\nUser=root\n' }
    expect((await sh(theirs, 'id -u; echo "$A"', { env })).out).not.toMatch(/^0$/m)
  })

  attack('streams are pipes that programs can open again, and there are no others', { tries: 2 }, async () => {
    const script =
      'echo x >/dev/stderr; cat /dev/stdin; tar cf /dev/stdout -C /etc hostname | tar tf -; ls /proc/self/fd | tr "\\n" " "'
    expect(await sh(theirs, script)).toMatchObject({ code: 0, out: 'hostname\n0 1 2 3 ', err: 'x\n' })
  })

  /** Types lines into a terminal of the grantee's, and waits until its shell has ended by itself. */
  async function type(...lines: string[]) {
    const terminal = await openTerminal(theirs, { cols: 80, rows: 24 }, () => undefined)
    await terminal.write(Buffer.from(`${lines.join('\n')}\nexit 0\n`))
    await terminal.ended
  }

  attack('nothing that a grantee started outlives the grant, and no drive stays busy', { tries: 2 }, async () => {
    // one way to stay behind each
    const ways = ['nohup', 'setsid', 'twice', 'typed-nohup', 'typed-setsid', 'detached'] as const
    const name = (way: (typeof ways)[number]) => `/tmp/stay-${way}`
    await machine.must(owner(), ['grant', 'revoke', 'lab', other().identity])
    await letIn('exec,terminal')
    const left = await sh(
      theirs,
      `cd /drives/data || exit 1
      for way in ${ways.join(' ')}; do cp /bin/sleep /tmp/stay-$way; done
      nohup ${name('nohup')} 9999 >/dev/null 2>&1 &
      setsid ${name('setsid')} 9999 >/dev/null 2>&1 </dev/null &
      (setsid sh -c "(${name('twice')} 9999 &) &" >/dev/null 2>&1 </dev/null &)
      printf '#!/bin/sh\\nsleep 0.2\\necho >>/tmp/turns\\nsetsid /tmp/turn &\\n' >/tmp/turn
      chmod +x /tmp/turn
      for i in 1 2 3; do setsid /tmp/turn >/dev/null 2>&1 </dev/null & done
      systemd-run --user sleep 9998 2>&1
      systemd-run sleep 9998 2>&1
      loginctl enable-linger 2>&1
      echo sleep 9998 | at now 2>&1
      echo '* * * * * sleep 9998' | crontab - 2>&1
      echo $$ >/sys/fs/cgroup/cgroup.procs
      mkdir /sys/fs/cgroup/mine
      true`,
    )
    expect(left.code).toBe(0)
    await type(
      'cd /drives/data',
      `nohup ${name('typed-nohup')} 9999 >/dev/null 2>&1 </dev/null &`,
      `setsid ${name('typed-setsid')} 9999 >/dev/null 2>&1 </dev/null &`,
    )
    await startDetached(theirs, nodeHost, { argv: [name('detached'), '9999'], cwd: '/drives/data' })
    const staying = () =>
      root(`for way in ${ways.join(' ')}; do pgrep -f "[/]tmp/stay-$way" >/dev/null && echo $way; done; true`)
    await expect.poll(staying).toBe(`${ways.join('\n')}\n`)
    const folders = "for pid in $(pgrep -f '[/]tmp/stay-'); do readlink /proc/$pid/cwd; done | sort -u"
    expect(await root(folders)).toBe('/drives/data\n')
    // one that follows itself is never where one looks for it, and counts its turns
    const size = 'stat -c %s /tmp/turns'
    const turning = () => root(`before=$(${size}); sleep 3; test $(${size}) = $before && echo rests || echo turns`)
    expect(await turning()).toBe('turns\n')
    const account = accountNameOf(other())
    const started = performance.now()
    await machine.must(owner(), ['grant', 'revoke', 'lab', other().identity])
    console.log(`revoked in ${Math.round(performance.now() - started)} ms`)
    expect(await staying()).toBe('')
    expect(await turning()).toBe('rests\n')
    expect(await root(`pgrep -f '[s]leep 9998'; ps -o args= -u ${account}; true`)).toBe('')
    expect(await root('ls /var/lib/systemd/linger 2>/dev/null; umount /drives/data && echo free')).toBe('free\n')
    await machine.must(owner(), ['drive', 'unlock', 'data'])
    await letIn()
  })

  attack('an agent that is killed loses no byte and no exit of a program', { tries: 2 }, async number => {
    const signal = number === 0 ? 'KILL' : 'TERM'
    const count = 90_000
    let out = ''
    let killing: Promise<unknown> | undefined
    const argv = ['sh', '-c', `seq 1 ${count / 2}; sleep 6; seq ${count / 2 + 1} ${count}; exit 7`]
    const exit = await runProgram(
      ours,
      { argv },
      {
        onOutput(bytes) {
          out += text(bytes)
          killing ??= root(`systemctl kill -s ${signal} mortar-agent`).catch(() => undefined)
        },
      },
    )
    await killing
    expect(exit).toEqual({ code: 7, signal: null })
    expect(out === Array.from({ length: count }, (_, i) => `${i + 1}\n`).join('')).toBe(true)
  })
})
