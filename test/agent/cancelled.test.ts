/** Calls that are cancelled between the check of their rights and what they do: it is not done. SPEC §8.1, §9.5 */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs'
import { tmpdir, userInfo } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest'
import { Drives } from '../../agent/guest/drives.ts'
import type { Guest } from '../../agent/guest/guest.ts'
import type { Runner } from '../../agent/guest/runner.ts'
import type { RunnerProgram } from '../../agent/guest/runner-program.ts'
import type { Runners } from '../../agent/guest/runners.ts'
import { SshAccess } from '../../agent/guest/ssh-access.ts'
import { exec } from '../../agent/handlers/exec.ts'
import { terminal } from '../../agent/handlers/terminal.ts'
import { exec as execCommand } from '../../protocol/commands/exec.ts'
import { terminal as terminalCommand } from '../../protocol/commands/terminal.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { endRunners, newRunners } from '../support/runners.ts'
import { sessionPair } from '../support/session-pair.ts'

let folder: string
let ending: AbortController
let runners: Runners
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-cancelled-'))
  ending = new AbortController()
  runners = newRunners(folder)
})
afterEach(async () => {
  await runners.close()
  await endRunners(folder)
  rmSync(folder, { recursive: true, force: true })
})

const user = { name: 'ada', uid: 1000, gid: 1000, home: '/home/ada', shell: '/bin/sh', groups: [1000] }
const revoked = expect.objectContaining({ code: 'grant-revoked' })

describe.skipIf(!existsSync('/usr/sbin/sshd'))('an SSH key that is being delivered', () => {
  const grantee = () => ({ grantee: 'B', endsMs: Date.now() + 600_000 })
  const keys = () =>
    existsSync(join(folder, 'ssh/keys/ada')) ? readFileSync(join(folder, 'ssh/keys/ada'), 'utf8') : ''

  test('is not taken once its grantee was shut out, whatever became of the session', async () => {
    const access = new SshAccess(runners, folder)
    const delivery = access.authorise(user, 'ssh-ed25519 AAAA', 600, grantee(), ending.signal)
    const another = access.authorise(user, 'ssh-ed25519 CCCC', 600, { ...grantee(), grantee: 'C' }, ending.signal)
    access.withdraw('B')
    await expect(delivery).rejects.toEqual(revoked)
    await another
    expect(keys()).toMatch(/^[^\n]* ssh-ed25519 CCCC\n$/)
    // nor when the same grantee was let in again meanwhile
    const old = access.authorise(user, 'ssh-ed25519 AAAA', 600, grantee(), ending.signal)
    access.withdraw('B')
    const anew = access.authorise(user, 'ssh-ed25519 BBBB', 600, grantee(), ending.signal)
    await expect(old).rejects.toEqual(revoked)
    await anew
    expect(keys()).not.toMatch(/AAAA/)
    expect(keys()).toMatch(/BBBB/)
    access.withdraw('B')
    access.withdraw('C')
    expect(access.authorised()).toBe(false)
  })

  test('is not taken once its call was cancelled, the owner’s neither', async () => {
    const access = new SshAccess(runners, folder)
    const deliveries = [grantee(), { grantee: null, endsMs: null }].map(rights =>
      access.authorise(user, 'ssh-ed25519 AAAA', 600, rights, ending.signal),
    )
    ending.abort(new MortarError('going-away'))
    for (const delivery of deliveries) await expect(delivery).rejects.toMatchObject({ code: 'going-away' })
    expect([keys(), access.authorised()]).toEqual(['', false])
  })
})

describe.skipIf(!existsSync('/usr/sbin/sshd'))('an SSH key that was delivered', () => {
  afterEach(() => {
    vi.useRealTimers()
    vi.restoreAllMocks()
  })

  test('ends with the grant, though the clock is set forward after the delivery', async () => {
    vi.useFakeTimers({ toFake: ['setTimeout', 'clearTimeout'] })
    const access = new SshAccess(runners, folder)
    const now = Date.now()
    const grantee = { grantee: 'B', endsMs: now + 600_000 }
    await access.authorise(user, 'ssh-ed25519 AAAA', 43_200, grantee, ending.signal)
    const file = join(folder, 'ssh/keys/ada')
    vi.advanceTimersByTime(LIMITS.clockStepMs)
    expect(readFileSync(file, 'utf8')).toMatch(/AAAA/)
    vi.spyOn(Date, 'now').mockReturnValue(grantee.endsMs)
    vi.advanceTimersByTime(LIMITS.clockStepMs)
    expect(readFileSync(file, 'utf8')).toBe('')
  })
})

describe('a change of a drive', () => {
  const serial = '0123456789abcdef0123'
  const device = { serial, path: '/dev/nonexistent', sizeBytes: 0 }
  const key = new Uint8Array(64)
  const changes: [string, (drives: Drives, signal: AbortSignal) => Promise<unknown>][] = [
    ['lock', (drives, signal) => drives.lock(serial, signal)],
    ['format', (drives, signal) => drives.format(device, { id: '', label: '', erase: true, key, signal })],
    [
      'unlock',
      (drives, signal) =>
        drives.unlock(device, { headerDigest: key, mountName: 'data', readOnly: false, user, key, signal }),
    ],
  ]
  test.each(changes)('%s is not begun when it was cancelled while it waited for its turn', async (_, change) => {
    const drives = new Drives(runners, folder)
    const before = drives.lock(serial, new AbortController().signal)
    const waiting = change(drives, ending.signal)
    ending.abort(new MortarError('grant-revoked'))
    await expect(before).rejects.toMatchObject({ code: 'drive-detached' })
    await expect(waiting).rejects.toEqual(revoked)
  })
})

describe('a program that was being started', () => {
  /** The real runner, whose start is told late. */
  function slowGuest() {
    const [started, go] = [Promise.withResolvers<RunnerProgram>(), Promise.withResolvers<void>()]
    const runner = {
      async start(...given: Parameters<Runner['start']>) {
        const program = await runners.start(...given)
        started.resolve(program)
        await go.promise
        return program
      },
    } as Runner
    const guest = { runner, config: { defaultUser: userInfo().username } } as Guest
    return { guest, started: started.promise, go: () => go.resolve() }
  }

  test.each(['exec', 'terminal'] as const)('is ended with the session it was for: %s', async which => {
    const { guest, started, go } = slowGuest()
    const { session, faults } = await sessionPair({
      signal: ending.signal,
      handlers: { exec: call => exec(call, guest as never), terminal: call => terminal(call, guest as never) },
    })
    const opening =
      which === 'exec'
        ? session.open(execCommand, { argv: ['sleep', '1000'] })
        : session.open(terminalCommand, { cols: 80, rows: 24 })
    const failed = expect(opening).rejects.toEqual(revoked)
    const program = await started
    const reader = await program.open(0)
    ending.abort(new MortarError('grant-revoked'))
    go()
    await failed
    // what it says ends, and so it has
    await expect(
      (async () => {
        while (await reader.next());
      })(),
    ).rejects.toMatchObject({ code: 'going-away' })
    await expect.poll(() => faults).toEqual([[which, 'grant-revoked']])
  })
})
