/** The command `mortar` as a process: help, usage, exit codes, errors in both forms, its files. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, afterEach, beforeAll, describe, expect, test, vi } from 'vitest'
import { parseSize } from '../../client/cli/context.ts'
import { exitCodeOf, exitCodeOfProgram } from '../../client/cli/exit-codes.ts'
import { parseCommandLine } from '../../client/cli/program.ts'
import { NOUNS, SUBCOMMANDS } from '../../client/cli/subcommands.ts'
import { parseIdentity } from '../../protocol/control/login.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { refusal, type Script, sampleVm, smallBroker } from './small-broker.ts'

vi.setConfig({ testTimeout: 60_000, hookTimeout: 60_000 })

/** what a terminal acts on, or shows in another order */
const STEERING = /\p{Cc}|\p{Bidi_Control}/u
const MAIN = join(import.meta.dirname, '../../client/cli/main.ts')
let folder = ''
let close = () => {}
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-cli-'))
})
afterEach(() => close())
afterAll(() => rmSync(folder, { recursive: true }))

const environment = { PATH: process.env.PATH ?? '', HOME: '/nonexistent', MORTAR_BROKER: 'http://127.0.0.1:9' }

/** Runs it without a terminal; not in this process, so that the small broker can answer. */
async function mortar(args: readonly string[], more: Record<string, string> = {}, input = '') {
  const env = { ...environment, MORTAR_IDENTITY: join(folder, 'identity'), ...more }
  const child = spawn(process.execPath, [MAIN, ...args], { env })
  const output = { stdout: '', stderr: '' }
  child.stdout.on('data', chunk => {
    output.stdout += chunk
  })
  child.stderr.on('data', chunk => {
    output.stderr += chunk
  })
  child.stdin.end(input)
  const [code] = await once(child, 'close')
  return { code, ...output }
}

async function against(script: Script) {
  const broker = await smallBroker(script)
  close = broker.close
  return { MORTAR_BROKER: broker.url }
}

describe('help and usage', () => {
  test.each(SUBCOMMANDS.map(subcommand => [subcommand.name, subcommand]))(
    '%s --help shows examples',
    async (name, row) => {
      const defaults = { broker: '', identity: '' }
      const options = { subcommands: SUBCOMMANDS, nouns: NOUNS, version: '1', defaults }
      const parsed = await parseCommandLine(options, [...name.split(' '), '--help'])
      const { kind, text, exitCode } = parsed as Extract<typeof parsed, { kind: 'text' }>
      expect([kind, exitCode]).toEqual(['text', 0])
      expect(text).toContain(`Usage: mortar ${name}`)
      for (const example of row.examples) expect(text).toContain(example)
    },
  )

  test.each(Object.keys(NOUNS))('%s --help shows an example of each of its subcommands', async noun => {
    const options = { subcommands: SUBCOMMANDS, nouns: NOUNS, version: '1', defaults: { broker: '', identity: '' } }
    const { text } = (await parseCommandLine(options, [noun, '--help'])) as { text: string }
    for (const { name, examples } of SUBCOMMANDS) {
      if (name.startsWith(`${noun} `)) expect(text).toContain(`\n  ${examples[0]}`)
    }
  })

  test.each([[['--json']], [['vm', '--json']], [['--json', 'nonsense']], [['--json', 'vm', 'show']]])(
    'mortar %j is told as JSON',
    async args => {
      const { code, stdout, stderr } = await mortar(args)
      expect([code, stdout]).toEqual([2, ''])
      expect(JSON.parse(stderr).error).toMatchObject({ code: 'usage' })
    },
  )

  test('--help and --version go to standard output', async () => {
    const help = await mortar(['--help'])
    expect([help.code, help.stderr]).toEqual([0, ''])
    expect(help.stdout).toContain('Exit codes: 0 ok')
    expect((await mortar(['--version'])).stdout).toMatch(/^[\w.-]+\n$/)
  })

  test.each([
    [[], 'Usage: mortar'],
    [['vm'], 'Usage: mortar vm'],
    [['nonsense'], "unknown command 'nonsense'"],
    [['vm', 'create', 'x'], "required option '--brick <name>'"],
    [['vm', 'create', 'x', '--brick', 'b', '--memory', '12'], '--memory needs a whole number from 256'],
    [['vm', 'create', 'x', '--brick', 'b', '--wait', 'never'], '--wait is one of ready, enrolled, none'],
    [['vm', 'show'], "missing required argument 'vm'"],
    [['vm', 'show', 'a', 'b'], 'too many arguments'],
    [['vm', 'list', '--no-such'], "unknown option '--no-such'"],
    [['exec', 'vm'], "missing required argument 'argv'"],
    [['exec', 'vm', '--env', 'novalue', '--', 'ls'], '--env needs NAME=VALUE'],
    [['drive', 'create', 'x', '--size', '1X'], '"1X" is not a size'],
    [['console', '--listen', 'nowhere'], '--listen needs ADDRESS:PORT'],
    [['identity', 'create', '--identity', '/nonexistent/x'], 'give --passphrase-file or --no-passphrase'],
  ])('mortar %j is a usage error', async (args, says) => {
    const { code, stdout, stderr } = await mortar(args)
    expect([code, stdout]).toEqual([2, ''])
    expect(stderr).toContain(says)
  })
})

describe('identity', () => {
  test('create, show, and never replace', async () => {
    const made = await mortar(['identity', 'create', '--no-passphrase', '--json'])
    expect([made.code, made.stderr]).toEqual([0, ''])
    const { identity, path } = JSON.parse(made.stdout) as { identity: string; path: string }
    parseIdentity(identity)
    expect(path).toBe(join(folder, 'identity'))
    expect((statSync(path).mode & 0o777).toString(8)).toBe('600')
    expect((await mortar(['identity', 'show'])).stdout).toBe(`${identity}\n`)
    const again = await mortar(['identity', 'create', '--no-passphrase'])
    expect(again.code).toBe(6)
    expect(again.stderr).toBe(
      `mortar: An identity already exists there: ${path}\n  → Use another --identity path, or keep the one you have\n`,
    )
  })

  test('with a passphrase', async () => {
    const passphrase = join(folder, 'passphrase')
    writeFileSync(passphrase, 'correct horse\n')
    const path = join(folder, 'locked')
    const given = ['--identity', path, '--passphrase-file', passphrase]
    const made = await mortar([...given, 'identity', 'create'])
    expect(made.code).toBe(0)
    expect(readFileSync(path, 'utf8')).toMatch(/^-----BEGIN AGE ENCRYPTED FILE-----\n/)
    expect((await mortar(['identity', 'show', ...given])).stdout).toBe(made.stdout)
    writeFileSync(passphrase, 'wrong horse')
    const wrong = await mortar(['--json', 'identity', 'show', ...given])
    expect([wrong.code, wrong.stdout]).toEqual([4, ''])
    expect(JSON.parse(wrong.stderr).error).toMatchObject({ code: 'identity-locked', detail: 'the passphrase is wrong' })
  })

  test('a missing one says how to make one', async () => {
    const { code, stderr } = await mortar(['vm', 'list', '--identity', join(folder, 'none')])
    expect(code).toBe(4)
    expect(stderr).toContain('Make one with: mortar identity create')
  })
})

describe('against a broker', () => {
  test('lists as a table and as JSON, and pins the broker beside the identity', async () => {
    await mortar(['identity', 'create', '--no-passphrase'])
    const vm = sampleVm(new Uint8Array(32))
    const env = await against({ 'GET /v1/vms': () => ({ json: { vms: [vm] } }) })
    const shown = await mortar(['vm', 'list'], env)
    expect(shown.stdout.split('\n')[1]).toMatch(/^first +enrolled +debian-12 +1 GiB +2026-01-01 00:00:00 +1{8}-/)
    expect(JSON.parse((await mortar(['--json', 'vm', 'list'], env)).stdout)).toEqual({ vms: [vm] })
    const pinned = JSON.parse(readFileSync(join(folder, 'known-brokers.json'), 'utf8'))
    expect(Object.keys(pinned)).toContain(env.MORTAR_BROKER)
    writeFileSync(
      join(folder, 'known-brokers.json'),
      JSON.stringify({ [env.MORTAR_BROKER]: encodeBase64url(new Uint8Array(32)) }),
    )
    const swapped = await mortar(['vm', 'list', '--json'], env)
    rmSync(join(folder, 'known-brokers.json'))
    expect([swapped.code, JSON.parse(swapped.stderr).error.code]).toEqual([1, 'broker-mismatch'])
  })

  test.each([
    ['not-found', 3],
    ['denied', 4],
    ['identity-wrong', 4],
    ['libvirt-down', 5],
    ['timeout', 5],
    ['drive-exists', 6],
    ['no-space', 1],
    ['bad-request', 2],
  ])('%s ends with %i', async (code, exitCode) => {
    const env = await against({ 'GET /v1/drives': () => refusal(code, 'this one') })
    const told = await mortar(['drive', 'list', '--json'], env)
    expect(told.code).toBe(exitCode)
    expect(JSON.parse(told.stderr).error).toMatchObject({ code, detail: 'this one' })
  })

  test('what the broker writes into an answer reaches no terminal as it is', async () => {
    const hostile = '\u001b]0;owned\u0007\u009b2J\u202e'
    const vm = sampleVm(new Uint8Array(32))
    const member = await against({ 'GET /v1/vms': () => ({ json: { vms: [], [hostile]: 1 } }) })
    for (const json of [[], ['--json']]) {
      const { code, stderr } = await mortar(['vm', 'list', ...json], member)
      expect(code).toBe(1)
      expect(stderr).toContain('owned')
      expect(stderr.replaceAll('\n', '')).not.toMatch(STEERING)
    }
    close()
    const log = await against({
      'GET /v1/vms': () => ({ json: { vms: [vm] } }),
      [`GET /v1/vms/${vm.id}/log`]: () => ({ json: { console: hostile } }),
    })
    const { stdout } = await mortar(['vm', 'logs', 'first', '--json'], log)
    expect(stdout.replaceAll('\n', '')).not.toMatch(STEERING)
    expect(JSON.parse(stdout).console).toBe(hostile)
  })

  test('a drive that the broker says is attached elsewhere is not unlocked there', async () => {
    const drive = {
      id: '44444444-4444-4444-8444-444444444444',
      name: 'data',
      sizeBytes: 1,
      owner: encodeBase64url(new Uint8Array(32)),
      note: '',
      attachedTo: '55555555-5555-4555-8555-555555555555',
      serial: 'ab'.repeat(10),
      createdAt: '2026-01-01T00:00:00Z',
    }
    const asked: string[] = []
    const env = await against({
      'GET /v1/drives': () => ({ json: { drives: [drive] } }),
      'GET /v1/vms': () => ({ json: { vms: [sampleVm(new Uint8Array(32))] } }),
      [`GET /v1/vms/${drive.attachedTo}`]: () => {
        asked.push('the other VM')
        return refusal('not-found')
      },
    })
    const { code, stderr } = await mortar(['drive', 'unlock', 'data', 'first', '--json'], env)
    expect(code).toBe(6)
    expect(JSON.parse(stderr).error).toMatchObject({ code: 'drive-detached' })
    expect(asked).toEqual([])
  })

  test('a broker that takes its time is said to be waited for, and not with --quiet', async () => {
    const env = await against({ 'GET /v1/drives': () => ({ json: { drives: [] }, delayMs: 2500 }) })
    expect((await mortar(['drive', 'list'], env)).stderr).toContain(`waiting for the broker at ${env.MORTAR_BROKER} …`)
    expect((await mortar(['drive', 'list', '--quiet'], env)).stderr).toBe('')
  })

  test('a broker that is not there ends with 5 and names its address; exec with 125', async () => {
    const env = await against({})
    close()
    const listed = await mortar(['vm', 'list'], env)
    expect(listed.code).toBe(5)
    expect(listed.stderr).toContain(`${env.MORTAR_BROKER} cannot be reached (ECONNREFUSED)`)
    expect((await mortar(['exec', 'first', '--', 'true'], env)).code).toBe(125)
  })

  test('the option goes before the environment, on either side of the subcommand', async () => {
    const env = await against({ 'GET /v1/drives': () => ({ json: { drives: [] } }) })
    const args = ['--broker', env.MORTAR_BROKER]
    const elsewhere = { MORTAR_BROKER: 'http://127.0.0.1:19' }
    expect((await mortar([...args, 'drive', 'list'], elsewhere)).code).toBe(0)
    expect((await mortar(['drive', 'list', ...args], elsewhere)).code).toBe(0)
  })
})

describe('console', () => {
  test('refuses a port that is taken, and a folder without a page', async () => {
    const other = createServer().listen(0, '127.0.0.1')
    await once(other, 'listening')
    const address = other.address() as { port: number }
    const nothing = await mortar(['console', '--page', folder, '--listen', `127.0.0.1:${address.port}`])
    expect(nothing.code).toBe(3)
    expect(nothing.stderr).toContain('npm run build')
    other.close()
  })
})

test('exit codes and sizes', () => {
  expect(exitCodeOf('usage')).toBe(2)
  expect(exitCodeOf('identity-exposed')).toBe(4)
  expect(exitCodeOf('connection-lost')).toBe(5)
  expect(exitCodeOf('internal')).toBe(1)
  expect(exitCodeOfProgram({ code: 0, signal: null })).toBe(0)
  expect(exitCodeOfProgram({ code: null, signal: 'SIGKILL' })).toBe(137)
  expect([parseSize('64M'), parseSize('1g'), parseSize('512KiB'), parseSize('1000')]).toEqual([
    67_108_864, 1_073_741_824, 524_288, 1000,
  ])
  for (const bad of ['', 'M', '-1', '1.5G', '99999999999999T', '1 M']) expect(() => parseSize(bad)).toThrow()
})
