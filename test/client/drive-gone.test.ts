/** A drive that was detached: on whose word it is gone. The console page and the command go by the same. */
import { expect, test } from 'vitest'
import { detachFrom } from '../../client/drives/drive-gone.ts'
import { wallClock } from '../../client/host/clock.ts'
import type { Drive } from '../../protocol/control/api.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import type { ClientSession } from '../../protocol/session.ts'
import { sampleAgent, sampleVm } from './small-broker.ts'

const key = new Uint8Array(32)
const vm = { ...sampleVm(key, { state: 'ready', agent: sampleAgent(key, key) }), name: 'lab' }
const id = '44444444-4444-4444-8444-444444444444'
const drive = { id, name: 'data', attachedTo: vm.id } as Drive

const detached: string[] = []
/** a broker that says yes to everything */
const broker = {
  async detachDrive(which: string) {
    detached.push(which)
    return drive
  },
}
/** each look at it is long after the one before */
let now = 0
const clock = { ...wallClock, now: () => (now += 6_000) }
const seeing = (...serials: string[]) =>
  ({
    open: async () => ({ received: async function* () {}, ready: { drives: serials.map(serial => ({ serial })) } }),
  }) as unknown as ClientSession
const detach = (session: ClientSession | null, saidLocked: boolean, from = vm) =>
  detachFrom({ broker, session, clock }, drive, from, saidLocked)

test('in a session with the VM it is gone when the VM says so', async () => {
  expect(await detach(seeing(), true)).toBe('lab says that data is no longer plugged in.')
})

test.each([
  ['that is locked, as the VM said', true, /^.*lab said that data is locked, and not that it is unplugged/, true],
  ['of which nothing was said', false, /^.*lab said neither that data is locked nor that it is unplugged/, null],
])('without a session, a drive %s is not said to be gone on the broker’s word', async (_what, said, words, known) => {
  detached.length = 0
  await expect(detach(null, said)).rejects.toMatchObject({
    code: 'unconfirmed',
    message: expect.stringMatching(words),
    known: { drivesLocked: known, detachedInVm: null },
  })
  expect(detached).toEqual([id])
})

test('of a VM that is off the broker’s word is named as such', async () => {
  expect(await detach(null, false, { ...vm, state: 'stopped' })).toBe(
    'The broker says that it detached data from lab, and that nothing runs in lab.',
  )
})

test('a VM that still sees it says so', async () => {
  await expect(detach(seeing(driveSerial(id)), true)).rejects.toMatchObject({
    code: 'unconfirmed',
    known: { drivesLocked: true, detachedInVm: false },
  })
})
