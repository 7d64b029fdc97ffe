/** Facts and programs at a real agent: streams, signals, ends, and what is refused. SPEC §9.1, §9.2 */
import { execFileSync } from 'node:child_process'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Params } from '../../protocol/commands/command.ts'
import { exec, STDERR } from '../../protocol/commands/exec.ts'
import { info } from '../../protocol/commands/info.ts'
import { decodeText, encodeText } from '../../protocol/core/bytes.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { AgentProcess, StandInBroker } from './agent-support.ts'

let broker: StandInBroker
let agent: AgentProcess
let session: ClientSession

beforeAll(async () => {
  broker = await StandInBroker.start()
  agent = new AgentProcess(broker).start()
  session = await broker.session()
})
afterAll(async () => {
  session?.close()
  await agent?.remove()
  broker?.close()
})

/** Runs a program to its end. */
async function run(params: Params<typeof exec>, stdin = '') {
  const call = await session.open(exec, params)
  // beside the reading: a program that echoes would otherwise wait for us and we for it
  const fed = call.write(encodeText(stdin)).then(() => call.end())
  const seen = { out: '', err: '', exits: [] as unknown[] }
  for await (const item of call.received()) {
    if (item.type === 'message') seen.exits.push(item.body)
    else if (item.lane === STDERR) seen.err += decodeText(item.bytes)
    else seen.out += decodeText(item.bytes)
  }
  await fed
  return seen
}

test('info says what the machine is', async () => {
  const { ready } = await session.open(info, {})
  expect(ready.cpus).toBeGreaterThan(0)
  expect(ready.memoryBytes).toBeGreaterThan(ready.memoryFreeBytes)
  expect(ready.generation).toBe(1)
})

test('stdout, stderr and the exit code come apart, the exit once and last', async () => {
  const seen = await run({ argv: ['sh', '-c', 'echo out; echo err >&2; exit 7'] })
  expect(seen).toEqual({ out: 'out\n', err: 'err\n', exits: [{ code: 7, signal: null }] })
})

test('stdin reaches the program and its end closes it', async () => {
  const text = 'x'.repeat(1_000_000)
  const seen = await run({ argv: ['cat'] }, text)
  expect(seen.out.length).toBe(text.length)
  expect(seen.exits).toEqual([{ code: 0, signal: null }])
})

test('a program that a signal ends is reported with the signal', async () => {
  const call = await session.open(exec, { argv: ['sleep', '100'] })
  call.post('signal', { name: 'SIGTERM' })
  const exits: unknown[] = []
  for await (const item of call.received()) if (item.type === 'message') exits.push(item.body)
  expect(exits).toEqual([{ code: null, signal: 'SIGTERM' }])
})

test('it runs as the default user, in the given directory, with a login environment and what was added', async () => {
  const { out } = await run({
    argv: ['sh', '-c', 'id -un; pwd; echo "$HOME $A $CREDENTIALS_DIRECTORY"'],
    cwd: '/usr',
    env: { A: 'a "$b" `c`\n' },
  })
  expect(out).toBe('nobody\n/usr\n/nonexistent a "$b" `c`\n \n')
})

test.each([
  [{ argv: ['no-such-program'] }, 'exec-not-found'],
  [{ argv: ['/etc/passwd'] }, 'exec-failed'],
  [{ argv: ['true'], cwd: '/no/such/folder' }, 'directory-unknown'],
  [{ argv: ['true'], user: 'no-such-user' }, 'user-unknown'],
])('%j is refused with %s', async (params, code) => {
  await expect(session.open(exec, params)).rejects.toMatchObject({ code })
})

test('what a program leaves behind goes on, may still write, and does not hold the result up', async () => {
  const { out, exits } = await run({
    argv: ['sh', '-c', '(echo $BASHPID; while sleep 0.1; do echo more; done) & echo $!'],
  })
  expect(exits).toEqual([{ code: 0, signal: null }])
  const pid = Number(out.trim().split('\n').at(-1))
  await new Promise(resolve => setTimeout(resolve, 500))
  expect(isAlive(pid)).toBe(true)
  process.kill(pid, 'SIGKILL')
})

test.each([
  ['echo x >/dev/stderr; echo y >/dev/stdout', '', 'y\n', 'x\n'],
  ['cat /dev/stdin', 'typed', 'typed', ''],
  ['sleep 0.2; cat /dev/stdin', 'typed before it looks', 'typed before it looks', ''],
  ['sleep 0.2; cat /dev/stdin; cat /dev/stdin', '', '', ''],
  [
    'tar cf /dev/stdout -C /etc hostname | tar tf -; tar cf /dev/stdout -C /etc hostname | wc -c',
    '',
    'hostname\n10240\n',
    '',
  ],
])('streams are pipes, which a program may open again: %s', async (script, stdin, out, err) => {
  const seen = await run({ argv: ['sh', '-c', script] }, stdin)
  expect(seen).toEqual({ out, err, exits: [{ code: 0, signal: null }] })
})

test('a program gets no descriptor but its three, and the limits of a login', async () => {
  const { out } = await run({
    argv: ['sh', '-c', 'ls /proc/self/fd | sort -n | tr "\\n" " "; ulimit -Sn; umask; nice'],
  })
  // the fourth is the folder that ls reads; what these tests were started with comes through them
  const ours = execFileSync('ls', ['/proc/self/fd'])
    .toString()
    .trim()
    .split('\n')
    .sort((a, b) => Number(a) - Number(b))
  expect(out).toBe(`${ours.join(' ')} 1024\n0022\n0\n`)
})

test('programs of a client that goes away are ended', async () => {
  const other = await broker.session()
  const call = await other.open(exec, { argv: ['sh', '-c', 'echo $$; exec sleep 1000'] })
  const { value: first } = await call.received().next()
  const pid = Number(decodeText((first as { bytes: Uint8Array }).bytes))
  expect(process.kill(pid, 0)).toBe(true)
  other.close()
  await expect.poll(() => isAlive(pid)).toBe(false)
})

test('a slow reader of 1 GiB of output does not grow the agent', async () => {
  const mebibyte = 2 ** 20
  const call = await session.open(exec, { argv: ['head', '-c', String(1024 * mebibyte), '/dev/zero'] })
  const before = agent.rssBytes
  let [received, most] = [0, 0]
  for await (const item of call.received()) {
    if (item.type !== 'data') continue
    received += item.bytes.length
    if (received % (128 * mebibyte) < item.bytes.length) {
      await new Promise(resolve => setTimeout(resolve, 300))
      most = Math.max(most, agent.rssBytes)
    }
  }
  expect(received).toBe(1024 * mebibyte)
  expect(most - before).toBeLessThan(80 * mebibyte)
})

function isAlive(pid: number): boolean {
  try {
    return process.kill(pid, 0)
  } catch {
    return false
  }
}

test('a signal reaches a program whose input has ended', async () => {
  const call = await session.open(exec, {
    argv: ['sh', '-c', 'trap "echo caught; exit 5" INT; cat; while :; do sleep 0.1; done'],
  })
  await call.write(encodeText('read'))
  call.post('eof', {})
  let output = ''
  for await (const item of call.received()) {
    if (item.type === 'message') expect(item.body).toEqual({ code: 5, signal: null })
    else {
      output += Buffer.from(item.bytes).toString()
      if (output === 'read') call.post('signal', { name: 'SIGINT' })
    }
  }
  expect(output).toBe('readcaught\n')
})

test('a signal from the keyboard reaches what a shell waits for', async () => {
  const call = await session.open(exec, { argv: ['sh', '-c', 'echo on; sleep 60; true'] })
  for await (const item of call.received()) {
    if (item.type === 'message') expect(item.body).toEqual({ code: null, signal: 'SIGINT' })
    else {
      // a shell that is just about to start its child may lose a signal, as on a terminal
      await new Promise(resolve => setTimeout(resolve, 500))
      call.post('signal', { name: 'SIGINT' })
    }
  }
})
