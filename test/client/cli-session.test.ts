/** `mortar` in a session: launch, first contact, programs and shells with their streams and signals, and sockets that break. */
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import type { Vm } from '../../protocol/control/api.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { describeUnless, missingOf } from '../support/possible.ts'
import { agent, env, folder, MAIN, mortar, outcomeOf } from './cli-rig.ts'

test('vm create waits until the VM is ready, by first contact and a certificate', async () => {
  const created = await mortar(['--json', 'vm', 'create', 'first', '--brick', 'debian-12'])
  expect([created.code, created.stderr]).toEqual([0, ''])
  const { vm } = JSON.parse(created.stdout) as { vm: Vm }
  expect(vm).toMatchObject({ name: 'first', state: 'ready' })
  expect(vm.certificate).toBeTruthy()
})

test('vm verify says what the VM proved, and prints the six words of a session, other ones each time', async () => {
  const [one, two] = [await mortar(['vm', 'verify', 'first']), await mortar(['--json', 'vm', 'verify', 'first'])]
  const [, words = ''] = /^words of this session: ((?:[a-z]{3,8} ){5}[a-z]{3,8})$/m.exec(one.stdout) ?? []
  expect(one.stdout).toContain('first proved the key that you certified for its boot 1.')
  const expected = { words: expect.stringMatching(/^([a-z]{3,8} ){5}[a-z]{3,8}$/), proof: 'certificate', generation: 1 }
  expect(JSON.parse(two.stdout)).toEqual(expected)
  expect(two.stdout).not.toContain(words)
})

test('vm wait enters a VM that is away for a moment once it is back, while there is time', async () => {
  agent.away = true
  const waiting = spawn(process.execPath, [MAIN, 'vm', 'wait', 'first', '--timeout', '60'], { env })
  let told = ''
  waiting.stderr.on('data', chunk => {
    told += chunk
  })
  const ended = outcomeOf(waiting)
  try {
    await expect.poll(() => told).toContain('trying again')
  } finally {
    agent.away = false
  }
  expect(await ended).toMatchObject({ code: 0 })
  expect(told).toContain('first proved its key')
})

describe('exec', () => {
  const exec = (script: string, input?: string | Buffer, ...options: string[]) =>
    mortar(['exec', 'first', ...options, '--', 'sh', '-c', script], input)

  test('streams stay apart and the exit code is the program’s', async () => {
    expect(await exec('echo out; echo err >&2; exit 42')).toMatchObject({ code: 42, stdout: 'out\n', stderr: 'err\n' })
    expect(await exec('kill -9 $$')).toMatchObject({ code: 137 })
    expect(await exec('echo $GREETING; pwd', '', '--env', 'GREETING=hello=you', '--cwd', '/')).toMatchObject({
      stdout: 'hello=you\n/\n',
    })
  })

  test('what cannot run is 127, what fails before it is 125', async () => {
    expect((await mortar(['exec', 'first', '--', '/no/such/program'])).code).toBe(127)
    expect((await mortar(['exec', 'second', '--', 'true'])).code).toBe(125)
  })

  test('of an error that crossed without a word the client says what was asked for', async () => {
    const absent = await mortar(['exec', 'first', '--json', '--', '/no/such/program', 'x'])
    expect(JSON.parse(absent.stderr).error).toMatchObject({ code: 'exec-not-found', detail: '/no/such/program' })
    const failed = await mortar(['exec', 'first', '--cwd', '/', '--', '/etc/passwd'])
    expect([failed.code, failed.stderr]).toEqual([126, expect.stringContaining('in the VM: /etc/passwd in /\n')])
  })

  test('with --json the end and the output are one line, base64 unless all is UTF-8', async () => {
    const told = await exec('echo "größe"; cat >&2; exit 3', 'in', '--json')
    expect([told.code, told.stderr]).toEqual([3, ''])
    expect(JSON.parse(told.stdout)).toEqual({
      code: 3,
      signal: null,
      encoding: 'utf-8',
      stdout: 'größe\n',
      stderr: 'in',
    })
    const bytes = await exec('printf "\\377"; echo no >&2', '', '--json')
    expect(JSON.parse(bytes.stdout)).toMatchObject({ encoding: 'base64', stdout: '/w==', stderr: 'bm8K' })
    const flood = await exec('head -c 5000000 /dev/zero', '', '--json')
    expect([flood.code, flood.stdout]).toEqual([125, ''])
    expect(JSON.parse(flood.stderr).error).toMatchObject({ code: 'limit-exceeded' })
  })

  test('standard input goes in whole and output comes out whole', async () => {
    const input = randomBytes(3_000_000)
    const echoed = await exec('cat', input)
    expect(createHash('sha256').update(echoed.bytes).digest('hex')).toBe(
      createHash('sha256').update(input).digest('hex'),
    )
    const flood = await exec('head -c 20000000 /dev/zero')
    expect([flood.code, flood.bytes.length]).toEqual([0, 20_000_000])
  })

  test('a socket that breaks costs neither input nor output, and the exit code comes', async () => {
    const input = randomBytes(6_000_000)
    const child = spawn(process.execPath, [MAIN, 'exec', 'first', '--', 'sh', '-c', 'cat; exit 9'], { env })
    child.stdin.on('error', () => {})
    child.stdin.end(input)
    let breaks = 0
    let bytes = 0
    child.stdout.on('data', chunk => {
      bytes += chunk.length
      if (bytes < 1_500_000 * (breaks + 1) || breaks === 3) return
      breaks++
      for (const socket of agent.sockets.clients) socket.terminate()
    })
    const echoed = await outcomeOf(child)
    expect([breaks, echoed.code, echoed.bytes.length]).toEqual([3, 9, input.length])
    expect(echoed.bytes.equals(input)).toBe(true)
    expect(echoed.stderr).toMatch(/connecting again(.|\n)*connected again/)
    await expect.poll(() => agent.kept.running).toBe(0)
  })

  test('a signal that comes while the socket is broken reaches the program', async () => {
    const script = 'trap "echo caught; exit 3" INT; echo on; while :; do sleep 0.05; done'
    const child = spawn(process.execPath, [MAIN, 'exec', 'first', '--', 'sh', '-c', script], { env })
    child.stdout?.once('data', () => {
      for (const socket of agent.sockets.clients) socket.terminate()
      setTimeout(() => child.kill('SIGINT'), 50)
    })
    const ended = await outcomeOf(child)
    expect([ended.code, ended.bytes.toString()]).toEqual([3, 'on\ncaught\n'])
  })

  test('while the broker is away a second Ctrl-C gives up here', async () => {
    const child = spawn(process.execPath, [MAIN, 'exec', 'first', '--', 'sh', '-c', 'echo on; sleep 100'], { env })
    let told = ''
    child.stderr?.on('data', chunk => {
      told += chunk
    })
    child.stdout?.once('data', () => {
      agent.away = true
      for (const socket of agent.sockets.clients) socket.terminate()
    })
    try {
      await expect.poll(() => told).toContain('Ctrl-C twice')
      const ended = once(child, 'close')
      child.kill('SIGINT')
      await new Promise(resolve => setTimeout(resolve, 3_000))
      expect(child.exitCode).toBe(null)
      child.kill('SIGINT')
      expect((await ended)[0]).toBe(130)
    } finally {
      agent.away = false
      agent.kept.end('all', new MortarError('going-away'))
    }
  })

  test('three quick Ctrl-C end it even if the program takes none', async () => {
    const script = 'trap "" INT; echo on; while :; do sleep 0.05; done'
    const child = spawn(process.execPath, [MAIN, 'exec', 'first', '--', 'sh', '-c', script], { env })
    child.stdout?.once('data', async () => {
      for (let press = 0; press < 3; press++) {
        child.kill('SIGINT')
        // far enough apart that no two become one signal, and all within the two seconds that count as quick
        await new Promise(resolve => setTimeout(resolve, 600))
      }
    })
    expect((await outcomeOf(child)).code).toBe(130)
    // and ends there too: nothing is left to come back to
    await expect.poll(() => agent.kept.running).toBe(0)
  })

  test('a reader that leaves early ends it quietly', async () => {
    const command = `"$0" "$1" exec first -- yes | head -n 1`
    const run = await outcomeOf(spawn('sh', ['-c', command, process.execPath, MAIN], { env }))
    expect([run.code, run.bytes.toString(), run.stderr]).toEqual([0, 'y\n', ''])
    await expect.poll(() => agent.kept.running).toBe(0)
  })

  test.each([
    ['while its input is open', 'pipe', 'trap "echo caught; exit 3" INT; echo on; while :; do sleep 0.05; done', 3],
    [
      'behind the end of its input',
      'ignore',
      'trap "echo caught; exit 3" INT; echo on; while :; do sleep 0.05; done',
      3,
    ],
  ] as const)('Ctrl-C reaches the program %s', async (_, stdin, script, code) => {
    const child = spawn(process.execPath, [MAIN, 'exec', 'first', '--', 'sh', '-c', script], {
      env,
      stdio: [stdin, 'pipe', 'pipe'],
    })
    child.stdout?.once('data', () => setTimeout(() => child.kill('SIGINT'), 200))
    const ended = await outcomeOf(child)
    expect([ended.code, ended.stderr]).toEqual([code, ''])
    if (code === 3) expect(ended.bytes.toString()).toBe('on\ncaught\n')
  })
})

describeUnless(missingOf({ script: 'bsdutils' }), 'shell', () => {
  test('this terminal becomes one in the VM, and is itself again afterwards', async () => {
    // a terminal for mortar; what stty says before and after must be the same
    const inner = `stty rows 33 cols 101; stty -a >"$BEFORE"; "$NODE" "$MAIN" shell first; echo "ended $?"; stty -a >"$AFTER"`
    const [before, after] = [join(folder, 'before'), join(folder, 'after')]
    const child = spawn('script', ['-qefc', inner, '/dev/null'], {
      env: { ...env, BEFORE: before, AFTER: after, NODE: process.execPath, MAIN, TERM: 'xterm', SHELL: '/bin/sh' },
    })
    let screen = ''
    child.stdout.on('data', chunk => {
      screen += chunk
    })
    await expect.poll(() => screen).toMatch(/[$#] $/)
    child.stdin.write('stty size; echo $((40 + 2))\n')
    await expect.poll(() => screen).toMatch(/33 101\r\n42\r\n/)
    child.stdin.write('exit 3\n')
    await once(child, 'close')
    expect(screen).toContain('ended 3')
    expect(readFileSync(after, 'utf8')).toBe(readFileSync(before, 'utf8'))
  })

  test('a shell goes on when the socket breaks, and ends when its window is closed', async () => {
    const inner = '"$NODE" "$MAIN" shell first'
    const child = spawn('script', ['-qefc', inner, '/dev/null'], {
      env: { ...env, NODE: process.execPath, MAIN, TERM: 'xterm', SHELL: '/bin/sh' },
    })
    let screen = ''
    child.stdout.on('data', chunk => {
      screen += chunk
    })
    await expect.poll(() => screen).toMatch(/[$#] $/)
    child.stdin.write('kept=$((6 * 7)); echo set\n')
    await expect.poll(() => screen).toMatch(/\nset\r\n/)
    for (const socket of agent.sockets.clients) socket.terminate()
    child.stdin.write('echo value $kept\n')
    await expect.poll(() => screen).toMatch(/value 42\r\n/)
    expect(screen).toContain('connected again')
    expect(agent.kept.running).toBe(1)
    // the terminal goes away
    child.kill('SIGKILL')
    await once(child, 'close')
    await expect.poll(() => agent.kept.running).toBe(0)
  })

  test('without a terminal, the end of the input ends the shell', async () => {
    const { code, stdout } = await mortar(['shell', 'first'], 'echo $((40 + 2))\n')
    expect([code, stdout.includes('42')]).toEqual([0, true])
  })

  test('an input that ends before the shell reads ends it too', async () => {
    expect((await mortar(['shell', 'first'])).code).toBe(0)
    expect((await mortar(['shell', 'first', '--user', 'late'])).code).toBe(0)
  })
})
