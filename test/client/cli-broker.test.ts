/** The command `mortar` against a broker: lists, errors by code, and what is said of them. */
import { readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { beforeAll, describe, expect, test } from 'vitest'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { commandLine } from './command-line.ts'
import { refusal, sampleVm } from './small-broker.ts'

const { folder, mortar, against, close } = commandLine()

const sampleDrive = (attachedTo: string | null, name = 'data') => ({
  id: `44444444-4444-4444-8444-${attachedTo ? '4' : '5'}44444444444`,
  name,
  sizeBytes: 1,
  owner: encodeBase64url(new Uint8Array(32)),
  note: '',
  attachedTo,
  serial: 'ab'.repeat(10),
  createdAt: '2026-01-01T00:00:00Z',
})

beforeAll(() => mortar(['identity', 'create', '--no-passphrase']))

describe('against a broker', () => {
  test('lists as a table and as JSON, and pins the broker beside the identity', async () => {
    const vm = sampleVm(new Uint8Array(32))
    const env = await against({ 'GET /v1/vms': () => ({ json: { vms: [vm] } }) })
    const shown = await mortar(['vm', 'list'], env)
    expect(shown.stdout.split('\n')[1]).toMatch(/^first +enrolled +debian-12 +1 GiB +2026-01-01 00:00:00 +A{43} +1{8}-/)
    expect(JSON.parse((await mortar(['--json', 'vm', 'list'], env)).stdout)).toEqual({ vms: [vm] })
    const pinned = JSON.parse(readFileSync(join(folder, 'known-brokers.json'), 'utf8'))
    expect(Object.keys(pinned)).toContain(env.MORTAR_BROKER)
    writeFileSync(
      join(folder, 'known-brokers.json'),
      JSON.stringify({ [env.MORTAR_BROKER]: encodeBase64url(new Uint8Array(32)) }),
    )
    const swapped = await mortar(['vm', 'list', '--json'], env)
    rmSync(join(folder, 'known-brokers.json'))
    expect([swapped.code, JSON.parse(swapped.stderr).error.code]).toEqual([4, 'broker-mismatch'])
    expect(JSON.parse(swapped.stderr).error.todo).toContain(`its line from ${join(folder, 'known-brokers.json')}`)
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

  test('a drive that the broker says is attached elsewhere is not unlocked there', async () => {
    const drive = sampleDrive('55555555-5555-4555-8555-555555555555')
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
    const env = await against({ 'GET /v1/drives': () => ({ json: { drives: [] }, delayMs: 4000 }) })
    expect((await mortar(['drive', 'list'], env)).stderr).toContain(`waiting for the broker at ${env.MORTAR_BROKER} …`)
    expect((await mortar(['drive', 'list', '--quiet'], env)).stderr).toBe('')
  })

  test('a broker that is not there ends with 5 and names its address; exec with 125', async () => {
    const env = await against({})
    close()
    const listed = await mortar(['vm', 'list'], env)
    expect(listed.code).toBe(5)
    expect(listed.stderr).toContain(`The broker does not answer: ${env.MORTAR_BROKER} cannot be reached (ECONNREFUSED)`)
    expect((await mortar(['exec', 'first', '--', 'true'], env)).code).toBe(125)
  })

  test('https where http is spoken is told in words', async () => {
    const { MORTAR_BROKER } = await against({})
    const url = MORTAR_BROKER.replace('http', 'https')
    const { code, stderr } = await mortar(['vm', 'list', '--broker', url])
    expect([code, stderr]).toEqual([5, expect.stringContaining(`${url} speaks http, not https`)])
  })

  test('an administrator sees whose things are', async () => {
    const vms = [new Uint8Array(32), new Uint8Array(32).fill(1)].map(owner => sampleVm(owner))
    const lists = { 'GET /v1/vms': () => ({ json: { vms } }) }
    const answer = { token: 'x', expiresAt: '2030-01-01T00:00:00Z', role: 'administrator' }
    const env = await against({ ...lists, 'POST /v1/login': () => ({ json: answer }) })
    const [heading, ...rows] = (await mortar(['vm', 'list'], env)).stdout.split('\n')
    expect(heading).toContain('OWNER')
    for (const [i, { owner }] of vms.entries()) expect(rows[i]).toContain(owner)
  })

  test('what a drive is attached to is told by name, and detaching twice is no error', async () => {
    const vm = sampleVm(new Uint8Array(32))
    const env = await against({
      'GET /v1/drives': () => ({ json: { drives: [sampleDrive(vm.id), sampleDrive(null, 'free')] } }),
      'GET /v1/vms': () => ({ json: { vms: [vm] } }),
    })
    const refused = await mortar(['drive', 'delete', 'data'], env)
    expect([refused.code, refused.stderr]).toEqual([6, expect.stringContaining('attached to a VM: data, to first')])
    const detached = await mortar(['drive', 'detach', 'free'], env)
    const word = 'The broker says that free is attached to no VM. To have a VM say so, name it.'
    expect([detached.code, detached.stdout.split('\n')[0]]).toEqual([0, word])
    const elsewhere = await mortar(['drive', 'unlock', 'free', 'first'], env)
    expect(elsewhere.stderr).toContain('free is attached to no VM, not to first')
  })

  test('a VM that takes longer is said to go on, and how to wait for it', async () => {
    const vm = sampleVm(new Uint8Array(32), { state: 'booting' })
    const env = await against({
      'GET /v1/vms': () => ({ json: { vms: [vm] } }),
      [`GET /v1/vms/${vm.id}`]: () => ({ json: { vm } }),
    })
    const late = await mortar(['vm', 'wait', 'first', '--timeout', '1', '--json'], env)
    expect(late.code).toBe(5)
    expect(JSON.parse(late.stderr).error).toMatchObject({
      code: 'timeout',
      todo: 'The VM goes on starting; wait for it with: mortar vm wait first; read its console with: mortar vm logs first',
    })
  })

  test('the option goes before the environment, on either side of the subcommand', async () => {
    const env = await against({ 'GET /v1/drives': () => ({ json: { drives: [] } }) })
    const args = ['--broker', env.MORTAR_BROKER]
    const elsewhere = { MORTAR_BROKER: 'http://127.0.0.1:19' }
    expect((await mortar([...args, 'drive', 'list'], elsewhere)).code).toBe(0)
    expect((await mortar(['drive', 'list', ...args], elsewhere)).code).toBe(0)
  })
})
