/** The passphrase as it is typed on a terminal: without echo, with corrections, and the terminal as before afterwards. */
import { spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'

const MAIN = join(import.meta.dirname, '../../client/cli/main.ts')
const [CTRL_C, CTRL_U, BACKSPACE] = ['\u0003', '\u0015', '\u007f']

let folder = ''
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-passphrase-'))
})
afterEach(() => rmSync(folder, { recursive: true }))

/** Runs `identity create` on a terminal of `script`, and types `first` and `second` when asked. */
async function create(first: string, second: string) {
  const environment = { PATH: process.env.PATH ?? '', HOME: folder, SHELL: '/bin/sh', NODE: process.execPath, MAIN }
  const inner = `stty -a >"$HOME/before"; "$NODE" "$MAIN" identity create; echo "ended $?"; stty -a >"$HOME/after"`
  const child = spawn('script', ['-qefc', inner, '/dev/null'], { env: environment })
  const closed = once(child, 'close')
  let screen = ''
  child.stdout.on('data', chunk => {
    screen += chunk
  })
  await expect.poll(() => screen).toContain('New passphrase: ')
  child.stdin.write(first)
  await expect.poll(() => screen).toMatch(/Again: |ended/)
  if (!screen.includes('ended')) child.stdin.write(second)
  await closed
  const same = readFileSync(join(folder, 'before'), 'utf8') === readFileSync(join(folder, 'after'), 'utf8')
  return { screen, same, environment }
}

describe.skipIf(spawnSync('script', ['--version']).status !== 0)('typed on a terminal', () => {
  const path = () => join(folder, '.config', 'mortar', 'identity')

  test('it is not shown, and can be corrected or begun anew', async () => {
    const { screen, same, environment } = await create(`mistake${CTRL_U}hors€${BACKSPACE}e\r`, 'horse\n')
    expect(screen).toContain('ended 0')
    expect(screen).not.toMatch(/mistake|hors/)
    expect(same).toBe(true)
    const passphrase = join(folder, 'passphrase')
    writeFileSync(passphrase, 'horse')
    const argv = [MAIN, '--passphrase-file', passphrase, 'identity', 'show']
    const shown = spawnSync(process.execPath, argv, { env: environment, encoding: 'utf8' })
    expect(shown.stderr).toBe('')
    expect(screen).toContain(shown.stdout.trim())
  })

  test('two that differ make no identity', async () => {
    const { screen } = await create('horse\r', 'house\r')
    expect(screen).toContain('the two passphrases differ')
    expect([screen.includes('ended 2'), existsSync(path())]).toEqual([true, false])
  })

  test('Ctrl-C leaves no identity and the terminal as it was', async () => {
    const { screen, same } = await create(`hor${CTRL_C}`, '')
    expect([screen.includes('ended 130'), same, existsSync(path())]).toEqual([true, true, false])
  })
})
