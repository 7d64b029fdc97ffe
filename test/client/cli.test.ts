/** The command `mortar` as a process: help, usage, exit codes, errors in both forms, its files. */
import { once } from 'node:events'
import { readFileSync, statSync, writeFileSync } from 'node:fs'
import { createServer } from 'node:net'
import { join } from 'node:path'
import { describe, expect, test } from 'vitest'
import { parseSize } from '../../client/cli/context.ts'
import { exitCodeOf, exitCodeOfProgram } from '../../client/cli/exit-codes.ts'
import { parseCommandLine } from '../../client/cli/program.ts'
import { NOUNS, SUBCOMMANDS } from '../../client/cli/subcommands.ts'
import { driveCreate } from '../../protocol/control/api.ts'
import { parseIdentity } from '../../protocol/control/login.ts'
import { commandLine } from './command-line.ts'
import { sampleVm } from './small-broker.ts'

/** what a terminal acts on, or shows in another order */
const STEERING = /\p{Cc}|\p{Bidi_Control}/u
const { folder, mortar, against, close } = commandLine()

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

  test('--help marks what must be given, and names the sizes that a drive may have', async () => {
    const { stdout } = await mortar(['drive', 'create', '--help'])
    expect(stdout).toContain('16M to 16T: bytes, or with K, M, G, T (required)')
    const { minValue, maxValue } = driveCreate.shape.sizeBytes
    expect([minValue, maxValue]).toEqual(['16M', '16T'].map(text => parseSize(text, 0, 2 ** 50)))
  })

  test('--help and --version go to standard output', async () => {
    const help = await mortar(['--help'])
    expect([help.code, help.stderr]).toEqual([0, ''])
    expect(help.stdout).toContain('Exit codes: 0 ok')
    expect((await mortar(['--version'])).stdout).toMatch(/^[\w.-]+\n$/)
  })

  test('no word of a grant is offered that gives nothing, and what a drive gives is said', async () => {
    const { stdout } = await mortar(['grant', 'create', '--help'])
    expect(stdout).not.toMatch(/files-up|files-down|tunnel|stats|--target/)
    expect(stdout.replace(/\s+/g, ' ')).toMatch(/read, change and delete what lies on it, even with --allow exec alone/)
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
    [['exec', 'vm'], 'which program?'],
    [['exec', 'vm', '--env', 'novalue', '--', 'ls'], '--env needs NAME=VALUE'],
    [['exec', 'vm', '--env', '1X=2', '--', 'ls'], 'a name as in a shell, and at most 4096 characters, not "1X"'],
    [['exec', 'vm', '--cwd', 'here', '--', 'ls'], '--cwd needs an absolute folder, not "here"'],
    [['exec', 'vm', '--user', 'No One', '--', 'ls'], '--user needs the name of a user, not "No One"'],
    [['exec', 'vm', 'ls', '-la'], 'write -- before a program that has options'],
    [['shell', 'vm', '--json'], 'a shell has no JSON form'],
    [['drive', 'create', 'x', '--size', '1'], '1 is too small; a drive has 16 MiB to 16 TiB'],
    [['drive', 'create', 'x', '--size', '900000T'], '900000T is too large; a drive has 16 MiB to 16 TiB'],
    [['drive', 'create', 'x', '--size', '1X'], '"1X" is not a size'],
    [['grant', 'create', 'vm', 'mortar1x', '--allow', 'tunnel'], '"tunnel" is kept for later and gives nothing'],
    [['grant', 'create', 'vm', 'mortar1x', '--allow', 'exec,files-up'], '"files-up" is kept for later'],
    [['grant', 'create', 'vm', 'mortar1x', '--allow', 'exec,power'], '"power" is not among them: it takes --role manager'],
    [['grant', 'create', 'vm', 'mortar1x', '--target', 'a:1'], "unknown option '--target'"],
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
    expect(JSON.parse(wrong.stderr).error).toMatchObject({
      code: 'identity-locked',
      detail: `${path}: the passphrase is wrong`,
      todo: `Put the right passphrase into ${passphrase}`,
    })
    writeFileSync(passphrase, '\n')
    const empty = await mortar(['identity', 'show', ...given])
    expect([empty.code, empty.stderr]).toEqual([4, expect.stringContaining(`${passphrase} is empty`)])
  })

  test.each([
    ['a folder', () => folder],
    [
      'another file',
      () => {
        const path = join(folder, 'other')
        writeFileSync(path, 'hello', { mode: 0o600 })
        return path
      },
    ],
  ])('%s is no identity', async (_, make) => {
    const path = make()
    const { code, stderr } = await mortar(['vm', 'list', '--identity', path])
    expect([code, stderr]).toEqual([4, expect.stringContaining(`or it is damaged: ${path}`)])
  })

  test('a new one is said to be kept safe, not with --quiet', async () => {
    const path = join(folder, 'kept')
    const made = await mortar(['identity', 'create', '--no-passphrase', '--identity', path])
    expect(made.stderr).toMatch(new RegExp(`^wrote ${path}; keep a copy`))
    const quiet = await mortar(['identity', 'create', '--no-passphrase', '--quiet', '--identity', `${path}-2`])
    expect(quiet.stderr).toBe('')
  })

  test('a missing one says how to make one', async () => {
    const { code, stderr } = await mortar(['vm', 'list', '--identity', join(folder, 'none')])
    expect(code).toBe(4)
    expect(stderr).toContain('Make one with: mortar identity create')
  })
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
  expect(exitCodeOf('broker-mismatch')).toBe(4)
  expect(exitCodeOf('internal')).toBe(1)
  expect(exitCodeOfProgram({ code: 0, signal: null })).toBe(0)
  expect(exitCodeOfProgram({ code: null, signal: 'SIGKILL' })).toBe(137)
  expect(['64M', '1g', '512KiB', '1000'].map(text => parseSize(text, 0, 2 ** 44))).toEqual([
    67_108_864, 1_073_741_824, 524_288, 1000,
  ])
  for (const bad of ['', 'M', '-1', '1.5G', '99999999999999T', '1 M'])
    expect(() => parseSize(bad, 0, 2 ** 44)).toThrow()
})
