/** Calls of drives without number, by a caller with that right alone: they cost the agent little, and nobody else anything. SPEC §9.4 */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test, vi } from 'vitest'
import type { Device } from '../../agent/guest/block-devices.ts'
import type { DrivePeople } from '../../agent/guest/drive-people.ts'
import { Drives } from '../../agent/guest/drives.ts'
import type { Runner } from '../../agent/guest/runner.ts'
import { SecretAttempts } from '../../agent/guest/secret-attempts.ts'
import { driveFormat, driveList, driveLock, driveUnlock } from '../../agent/handlers/drives.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { wallClock } from '../support/session-pair.ts'

/** what was read of devices, and run as root */
const { reads, tools } = vi.hoisted(() => ({ reads: [] as string[], tools: [] as string[] }))
vi.mock('node:fs/promises', async importOriginal => {
  const real = await importOriginal<typeof import('node:fs/promises')>()
  const open = (path: string, ...rest: []) => {
    reads.push(path)
    return real.open(path, ...rest)
  }
  return { ...real, open }
})
vi.mock('../../agent/guest/tool.ts', async importOriginal => ({
  ...(await importOriginal<typeof import('../../agent/guest/tool.ts')>()),
  runTool: async (name: string) => {
    tools.push(name)
    await new Promise(resolve => setTimeout(resolve, 50))
    return { code: name === 'blkid' ? 2 : 1, stdout: '', stderr: '' }
  },
}))

let folder: string
let ending: AbortController
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'mortar-drive-calls-'))
  ending = new AbortController()
  reads.length = tools.length = 0
})
afterEach(() => rmSync(folder, { recursive: true, force: true }))

const [granted, other]: readonly [string, string] = [
  '11111111-1111-4111-8111-111111111111',
  '22222222-2222-4222-8222-222222222222',
]
const MIB = 2 ** 20

/** A file as a device. */
function deviceOf(id: string, magic = ''): Device {
  const path = join(folder, id)
  const file = openSync(path, 'w')
  ftruncateSync(file, 4 * MIB)
  if (magic) writeSync(file, Buffer.from(magic, 'latin1'), 0, undefined, 0)
  closeSync(file)
  return { serial: driveSerial(id), path, sizeBytes: 4 * MIB }
}
const LUKS = 'LUKS\xba\xbe\x00\x02'

function agentWith(...devices: readonly Device[]) {
  let looks = 0
  const look = () => {
    looks++
    return [...devices]
  }
  const drives = new Drives({} as Runner, {} as DrivePeople, folder, look)
  const guest = { drives, secretAttempts: new SecretAttempts(wallClock), log: () => undefined } as never
  return { guest, looks: () => looks }
}

const handlers = {
  'drive-format': driveFormat,
  'drive-unlock': driveUnlock,
  'drive-lock': driveLock,
  'drive-list': driveList,
}

/** Makes so many calls at once, and says how each ended so far: with ACCEPT, or by which code. */
function call(
  guest: never,
  name: keyof typeof handlers,
  calls: number,
  { grantee = 'grantee' as string | null, id = granted } = {},
) {
  const ends: string[] = []
  const answers: unknown[] = []
  for (let count = 0; count < calls; count++) {
    const given = {
      params: {
        drive: id,
        serial: driveSerial(id),
        headerDigest: new Uint8Array(32),
        mountName: 'data',
        readOnly: false,
        label: 'data',
        erase: false,
      },
      rights: { grantee, drives: grantee === null ? null : [granted] },
      signal: ending.signal,
      accept: (body: unknown) => {
        answers.push(body)
        ends.push('accepted')
      },
      secret: () =>
        new Promise((_, reject) => ending.signal.addEventListener('abort', () => reject(ending.signal.reason))),
      post: () => undefined,
    }
    handlers[name](given as never, guest).catch(({ code }: MortarError) => ends.push(code))
  }
  const many = (code: string) => ends.filter(end => end === code).length
  return { ends, answers, many }
}

test('thousands of calls for a drive that is away leave the loop its turns, and end with their session', async () => {
  const { guest, looks } = agentWith()
  const unlocking = call(guest, 'drive-unlock', 2_048)
  const formatting = call(guest, 'drive-format', 2_048)
  let turns = 0
  for (const end = performance.now() + 1_000; performance.now() < end; turns++)
    await new Promise(resolve => setTimeout(resolve, 1))
  expect(turns).toBeGreaterThan(100)
  // one for each call that waits, and then one for all
  expect(looks()).toBeLessThan(LIMITS.driveCalls + 10)
  expect(unlocking.many('limit-exceeded')).toBe(2_048 - LIMITS.driveCalls)
  expect(formatting.many('limit-exceeded')).toBe(2_048)
  ending.abort(new MortarError('going-away'))
  await expect.poll(() => unlocking.many('going-away')).toBe(LIMITS.driveCalls)
  await new Promise(resolve => setTimeout(resolve, 300))
  const before = looks()
  await new Promise(resolve => setTimeout(resolve, 500))
  expect(looks()).toBe(before)
})

test('a grantee who has all calls under way keeps neither the owner nor another grantee from theirs', async () => {
  const { guest } = agentWith(deviceOf(granted, LUKS))
  const grantees = call(guest, 'drive-unlock', LIMITS.driveCalls, { id: other })
  expect(call(guest, 'drive-list', 1).ends).toEqual([])
  const owners = call(guest, 'drive-list', 1, { grantee: null })
  const another = call(guest, 'drive-list', 1, { grantee: 'another' })
  await expect.poll(() => [owners.ends, another.ends]).toEqual([['accepted'], ['accepted']])
  expect(grantees.ends).toEqual([])
  ending.abort(new MortarError('going-away'))
})

test('lists read the first bytes of a drive, once for all who ask at the time, and of no drive that the caller may not know', async () => {
  const devices = [deviceOf(granted, LUKS), deviceOf(other, LUKS)]
  const { guest } = agentWith(...devices)
  const lists = ['a', 'b', 'c'].map(grantee => call(guest, 'drive-list', 500, { grantee }))
  const done = () => lists.map(({ many }) => many('accepted'))
  await expect.poll(done).toEqual([LIMITS.driveCalls, LIMITS.driveCalls, LIMITS.driveCalls])
  expect(reads).toEqual([devices[0]?.path])
  expect(lists[0]?.answers[0]).toEqual({
    drives: [{ serial: driveSerial(granted), state: 'locked', sizeBytes: 4 * MIB, mountPoint: null, readOnly: null }],
  })
})

test('drives are told as they are: blank, locked and of no kind that is ours', async () => {
  const foreign = '33333333-3333-4333-8333-333333333333'
  const { guest } = agentWith(deviceOf(granted), deviceOf(other, LUKS), deviceOf(foreign, 'hsqs'))
  const { answers } = call(guest, 'drive-list', 1, { grantee: null })
  await expect.poll(() => answers).toHaveLength(1)
  const { drives } = answers[0] as { drives: { state: string }[] }
  expect(drives.map(({ state }) => state)).toEqual(['blank', 'locked', 'foreign'])
})

test('formats of a blank drive that are not gone on with start one root program at a time, whoever asks', async () => {
  const { guest } = agentWith(deviceOf(granted))
  const formats = ['a', 'b', 'c'].map(grantee => call(guest, 'drive-format', 200, { grantee }))
  const done = () => formats.flatMap(({ ends }) => ends)
  await expect.poll(done).toHaveLength(600)
  expect(tools.filter(name => name === 'blkid').length).toBe(1)
  ending.abort(new MortarError('going-away'))
})
