/** Another user in a real VM, by a grant of its owner: what it gives, what it does not, and that it can be taken back. */
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { afterAll, beforeAll, expect, test } from 'vitest'
import type { Drive } from '../../protocol/control/api.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { accountNameOf } from '../support/people.ts'

describeGuest('grants', () => {
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
  })
  afterAll(() => machine?.dispose())

  const owner = () => machine.people.owner
  const other = () => machine.people.other
  const grant = (...more: string[]) =>
    machine.must(owner(), ['grant', 'create', 'lab', other().identity, '--allow', 'info,exec', ...more])

  test('without a grant the VM is not there', async () => {
    expect((await machine.mortar(other(), ['exec', 'lab', '--', 'id', '-un'])).stderr).toMatch(/There is no such thing/)
  })

  test('the grantee runs programs by an own account, and is denied the rest by the agent', async () => {
    await grant()
    const { vms } = await machine.must<{ vms: { id: string; name: string }[] }>(other(), ['vm', 'list'])
    expect(vms.map(({ name }) => name)).toEqual(['lab'])
    expect(await machine.inVm(other(), 'lab', ['id', '-un'])).toBe(`${accountNameOf(other())}\n`)
    const denied = async (args: string[]) => {
      const { code, stderr } = await machine.mortar(other(), args, { input: '' })
      expect(stderr, args.join(' ')).toMatch(/You may not do this/)
      return code
    }
    expect(await denied(['shell', 'lab'])).toBe(4)
    expect(await denied(['exec', 'lab', '--user', 'root', '--', 'id'])).toBe(125)
    expect(await denied(['ssh', 'lab', 'true'])).toBe(4)
    const id = vms[0]?.id ?? ''
    expect(await denied(['vm', 'stop', id, '--yes'])).toBe(4)
    expect(await denied(['vm', 'delete', id, '--yes'])).toBe(4)
    expect(await denied(['grant', 'create', 'lab', other().identity])).toBe(4)
  })

  test('the grantee has the VM prove its key, and no alarm is raised', async () => {
    const proved = await machine.must<{ proof: string; words: string }>(other(), ['vm', 'verify', 'lab'])
    expect(proved).toMatchObject({ proof: 'certificate', words: expect.stringMatching(/^([a-z]+ ){5}[a-z]+$/) })
  })

  test('a grantee with the right drives locks a drive of the grant, by its name or id, and no other', async () => {
    const { drive } = await machine.must<{ drive: Drive }>(owner(), ['drive', 'create', 'data', '--size', '32M'])
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
    const unlock = (...more: string[]) => machine.must(owner(), ['drive', 'unlock', 'data', ...more])
    const lock = (which: string) => machine.mortar(other(), ['--json', 'drive', 'lock', which, 'lab'])
    await unlock('--format')
    await grant('--allow', 'exec,drives')
    expect((await lock('data')).code).toBe(3)
    expect((await lock(drive.id)).code).toBe(3)
    await grant('--allow', 'exec,drives', '--drive', 'data')
    for (const which of ['data', drive.id]) {
      await machine.inVm(owner(), 'lab', ['test', '-w', '/drives/data'])
      const { code, stdout, stderr } = await lock(which)
      expect({ code, told: JSON.parse(stdout) }, stderr).toEqual({
        code: 0,
        told: { drive: { id: drive.id }, word: 'vm' },
      })
      await unlock()
    }
    const { code, stderr } = await lock('other')
    expect([code, stderr]).toEqual([3, expect.stringContaining(drive.id)])
  })

  test('revoking ends a running program of the grantee at once, and nothing opens any more', async () => {
    const child = spawn(machine.binaries.client, ['exec', 'lab', '--', 'sh', '-c', 'echo on; exec sleep 300'], {
      env: machine.environment(other()),
      stdio: ['ignore', 'pipe', 'pipe'],
    })
    let stderr = ''
    child.stderr.on('data', chunk => {
      stderr += chunk
    })
    await once(child.stdout, 'data')
    const closed = once(child, 'close')
    await machine.must(owner(), ['grant', 'revoke', 'lab', other().identity])
    expect((await closed)[0], stderr).toBe(125)
    expect(stderr).toMatch(/The grant was revoked/)
    expect((await machine.mortar(other(), ['exec', 'lab', '--', 'true'])).code).toBe(125)
    expect(await machine.inVm(owner(), 'lab', ['sh', '-c', 'pgrep -x sleep || echo none'])).toBe('none\n')
  })

  test('a new grant lets the same person in again, with SSH if it says so, until it is revoked', async () => {
    await grant('--allow', 'exec,ssh')
    expect(await machine.inVm(other(), 'lab', ['true'])).toBe('')
    const { code, stdout, stderr } = await machine.mortar(other(), ['ssh', 'lab', 'id', '-un'], { timeoutMs: 200_000 })
    expect({ code, stdout }, stderr).toEqual({ code: 0, stdout: `${accountNameOf(other())}\n` })
    const child = spawn(machine.binaries.client, ['ssh', 'lab', 'echo on; exec sleep 300'], {
      env: { PATH: process.env.PATH, ...machine.environment(other()) },
      stdio: ['ignore', 'pipe', 'ignore'],
    })
    await once(child.stdout, 'data')
    const closed = once(child, 'close')
    await machine.must(owner(), ['grant', 'revoke', 'lab', other().identity])
    expect((await closed)[0]).not.toBe(0)
  })
})
