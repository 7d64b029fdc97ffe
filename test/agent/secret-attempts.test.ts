/** How often keys of drives may be tried, by the handlers over real sessions. SPEC §9.4 */
import { expect, test } from 'vitest'
import type { Guest } from '../../agent/guest/guest.ts'
import { SecretAttempts } from '../../agent/guest/secret-attempts.ts'
import { driveFormat, driveUnlock } from '../../agent/handlers/drives.ts'
import { driveFormat as formatCommand, driveUnlock as unlockCommand } from '../../protocol/commands/drives.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { LIMITS } from '../../protocol/core/limits.ts'
import { ownerRights } from '../../protocol/rights.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { facts, sessionPair } from '../support/session-pair.ts'

const limited = expect.objectContaining({ code: 'rate-limited' })
const serialOf = (drive: number) => String(drive).padStart(20, '0')

/** An agent whose drives open with keys of ones, and its time. There are no block devices here. */
function agent() {
  const clock = { ms: 0, now: () => clock.ms, after: () => () => undefined }
  let tried = 0
  const requireRight = async ({ key }: { key: Uint8Array }) => {
    tried++
    if (key[0] !== 1) throw new MortarError('drive-key-wrong')
  }
  const guest = {
    drives: {
      find: async (serial: string) => ({ serial }),
      requireFormattable: async () => {},
      format: async (_device: unknown, options: { key: Uint8Array }) => {
        await requireRight(options)
        return new Uint8Array(32)
      },
      unlock: async (_device: unknown, options: { key: Uint8Array }) => {
        await requireRight(options)
        return { mountPoint: '/drives/data', sizeBytes: 1, freeBytes: 1, readOnly: false }
      },
    },
    secretAttempts: new SecretAttempts(clock),
    log: () => undefined,
  } as unknown as Guest
  const connect = async (grantee: string | null = null) => {
    const { session } = await sessionPair({
      admit: () => ({ ...ownerRights(['drives']), grantee }),
      handlers: {
        'drive-format': call => driveFormat(call as never, guest),
        'drive-unlock': call => driveUnlock(call as never, guest),
      },
    })
    return session
  }
  return { clock, connect, tried: () => tried }
}

const begin = (session: ClientSession, drive: number) =>
  session.open(unlockCommand, {
    drive: facts.vm,
    serial: serialOf(drive),
    headerDigest: new Uint8Array(32),
    mountName: 'data',
    readOnly: false,
  })

async function unlock(session: ClientSession, drive: number, key: 'right' | 'wrong') {
  const call = await begin(session, drive)
  await call.sendSecret(new Uint8Array(64).fill(key === 'right' ? 1 : 2))
  for await (const _ of call.received());
}
const wrong = { code: 'drive-key-wrong' }

test('so many wrong keys of one caller for one drive in a minute, in all its sessions together, and then no key is taken', async () => {
  const { clock, connect, tried } = agent()
  const sessions = [await connect(), await connect()] as const
  for (let i = 0; i < LIMITS.secretsPerMinute; i++) {
    await expect(unlock(sessions[i % 2 ? 0 : 1], 1, 'wrong')).rejects.toMatchObject(wrong)
  }
  for (const session of [...sessions, await connect()]) {
    await expect(begin(session, 1)).rejects.toEqual(limited)
    const format = { drive: facts.vm, serial: serialOf(1), label: 'data', erase: true }
    await expect(session.open(formatCommand, format)).rejects.toEqual(limited)
  }
  expect(tried()).toBe(LIMITS.secretsPerMinute)
  // another drive has its own
  await unlock(sessions[0], 2, 'right')
  clock.ms = 59_999
  await expect(begin(sessions[0], 1)).rejects.toEqual(limited)
  clock.ms = 60_000
  await unlock(sessions[0], 1, 'right')
})

test('a grantee’s wrong keys, in one session or many, keep neither the owner nor another grantee out', async () => {
  const { connect } = agent()
  const owner = await connect()
  for (let i = 0; i < LIMITS.secretsPerMinute; i++) {
    await expect(unlock(await connect('first'), 1, 'wrong')).rejects.toMatchObject(wrong)
  }
  await expect(begin(await connect('first'), 1)).rejects.toEqual(limited)
  await unlock(owner, 1, 'right')
  await unlock(await connect('second'), 1, 'right')
  // what others succeed in takes nothing back
  await expect(begin(await connect('first'), 1)).rejects.toEqual(limited)
})

test('so many wrong keys in one session, and another session has its own', async () => {
  const { clock, connect } = agent()
  const session = await connect()
  for (let i = 0; i < LIMITS.secretsPerSession; i++) {
    await expect(unlock(session, i, 'wrong')).rejects.toMatchObject(wrong)
  }
  await expect(begin(session, 99)).rejects.toEqual(limited)
  clock.ms = 3_600_000
  await expect(begin(session, 99)).rejects.toEqual(limited)
  await unlock(await connect(), 99, 'right')
})

test('keys that open count nothing, however often', async () => {
  const { connect } = agent()
  const session = await connect()
  for (let i = 0; i <= LIMITS.secretsPerSession; i++) await unlock(session, 1, 'right')
  for (let i = 0; i < LIMITS.secretsPerMinute; i++) {
    await expect(unlock(session, 1, 'wrong')).rejects.toMatchObject(wrong)
  }
  await expect(begin(session, 1)).rejects.toEqual(limited)
})

test('attempts that are under way at the same time count too', async () => {
  const { connect } = agent()
  const session = await connect()
  const calls = []
  for (let i = 0; i < LIMITS.secretsPerMinute; i++) calls.push(await begin(session, 1))
  await expect(begin(session, 1)).rejects.toEqual(limited)
  for (const call of calls) call.reset('going-away')
  await expect(begin(session, 1)).rejects.toEqual(limited)
})
