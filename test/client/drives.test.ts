/** Drives from the client's side, over a real channel in memory: where keys go, and what is locked. */
import { describe, expect, test } from 'vitest'
import { BrokerApi, pinsInMemory } from '../../client/broker/api.ts'
import { openDriveNote, sealDriveNote } from '../../client/drives/drive-note.ts'
import { formatDrive, listDrives, lockDrive, lockOpenDrives, unlockDrive } from '../../client/drives/drives.ts'
import { Identity } from '../../client/identity/identity.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import type { Drive } from '../../protocol/control/api.ts'
import { driveSerial } from '../../protocol/control/drive-serial.ts'
import { encodeBase64url } from '../../protocol/core/bytes.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import { sessionPair } from '../support/session-pair.ts'
import { smallBroker } from './small-broker.ts'

describe('drives', () => {
  const identity = Identity.create(nobleSuite)
  const id = '44444444-4444-4444-8444-444444444444'
  const salt = new Uint8Array(32).fill(6)
  const headerDigest = new Uint8Array(32).fill(7)
  const serial = driveSerial(id)
  const driveWith = (digest: Uint8Array | null): Drive => ({
    id,
    name: 'data',
    sizeBytes: 67_108_864,
    owner: encodeBase64url(identity.signKey),
    note: sealDriveNote(identity, id, { salt, headerDigest: digest }),
    attachedTo: '11111111-1111-4111-8111-111111111111',
    // the broker's word for it, which nobody goes by
    serial: 'ab'.repeat(10),
    createdAt: '2026-01-01T00:00:00Z',
  })

  test('formatting delivers the key and keeps the digest of the header in the note', async () => {
    let key: Uint8Array | undefined
    const { session } = await sessionPair({
      handlers: {
        async 'drive-format'(call) {
          call.accept({})
          key = await call.secret()
          call.post('done', { headerDigest })
        },
      },
    })
    let note = ''
    const broker = await smallBroker({
      [`PUT /v1/drives/${id}/note`]: body => {
        note = (body as { note: string }).note
        return { json: {} }
      },
    })
    try {
      const api = new BrokerApi({ url: broker.url, identity, pins: pinsInMemory() })
      const drive = await formatDrive(api, identity, session, driveWith(null), { erase: false })
      expect(drive.note).toBe(note)
      expect(openDriveNote(identity, id, note)).toEqual({ salt, headerDigest })
      expect(key).toEqual(identity.driveKey(id, salt).slice())
    } finally {
      broker.close()
    }
  })

  test('unlocking sends key and digest; a blank drive or a changed note sends neither', async () => {
    let asked = 0
    const done = { mountPoint: '/drives/data', sizeBytes: 60, freeBytes: 50, readOnly: true }
    const { session } = await sessionPair({
      handlers: {
        async 'drive-unlock'(call) {
          asked++
          call.accept({})
          expect(await call.secret()).toEqual(identity.driveKey(id, salt).slice())
          expect(call.params).toMatchObject({ serial, headerDigest, mountName: 'data', readOnly: true })
          call.post('done', done)
        },
      },
    })
    expect(await unlockDrive(identity, session, driveWith(headerDigest), { readOnly: true })).toEqual(done)
    const unlock = (drive: Drive) => unlockDrive(identity, session, drive, { readOnly: true })
    await expect(unlock(driveWith(null))).rejects.toMatchObject({ code: 'drive-blank' })
    const theirs = sealDriveNote(Identity.create(nobleSuite), id, { salt, headerDigest })
    await expect(unlock({ ...driveWith(null), note: theirs })).rejects.toMatchObject({ code: 'drive-note' })
    expect(asked).toBe(1)
  })

  test('only drives that are meant and open are locked, and one that is in use is named', async () => {
    const other = { ...driveWith(headerDigest), id: '55555555-5555-4555-8555-555555555555', name: 'other' }
    const hidden = driveSerial('66666666-6666-4666-8666-666666666666')
    const locked: string[] = []
    let busy = false
    const { session } = await sessionPair({
      handlers: {
        async 'drive-lock'(call) {
          if (busy) throw new MortarError('drive-busy')
          locked.push(call.params.serial)
          call.accept({ locked: true, holders: [] })
        },
        'drive-list': async call =>
          call.accept({
            drives: [
              { serial, state: 'mounted', sizeBytes: 1, mountPoint: '/drives/data', readOnly: false },
              { serial: hidden, state: 'open', sizeBytes: 1, mountPoint: null, readOnly: null },
              { serial: driveSerial(other.id), state: 'locked', sizeBytes: 1, mountPoint: null, readOnly: null },
            ],
          }),
      },
    })
    const drives = [driveWith(headerDigest), other]
    const broker = await smallBroker({ 'GET /v1/drives': () => ({ json: { drives } }) })
    try {
      const api = new BrokerApi({ url: broker.url, identity, pins: pinsInMemory() })
      expect(await lockOpenDrives(api, session, other.id)).toEqual([])
      expect(await lockOpenDrives(api, session, id)).toEqual(['data'])
      // one that the broker hides too
      expect(await lockOpenDrives(api, session)).toEqual(['data', hidden])
      expect(locked).toEqual([serial, serial, hidden])
      busy = true
      const failing = lockOpenDrives(api, session, id)
      await expect(failing).rejects.toMatchObject({ code: 'drive-busy', detail: 'data' })
    } finally {
      broker.close()
    }
  })

  test('a lock is a success on the word of the agent alone, which else says who uses the drive', async () => {
    const { session } = await sessionPair({
      handlers: {
        'drive-lock': async call => call.accept({ locked: false, holders: [{ pid: 7, user: 'm7abcdef0' }] }),
      },
    })
    const locking = lockDrive(session, driveWith(headerDigest))
    await expect(locking).rejects.toMatchObject({ code: 'drive-busy', detail: 'used by process 7 of m7abcdef0' })
  })

  test('a drive that is mounted in another way than asked is no success', async () => {
    const done = { mountPoint: '/drives/data', sizeBytes: 60, freeBytes: 50, readOnly: false }
    const { session } = await sessionPair({
      handlers: {
        async 'drive-unlock'(call) {
          call.accept({})
          await call.secret()
          call.post('done', done)
        },
      },
    })
    const unlocking = unlockDrive(identity, session, driveWith(headerDigest), { readOnly: true })
    await expect(unlocking).rejects.toMatchObject({ code: 'drive-busy', detail: 'data is mounted for writing' })
  })

  test("the agent's refusal arrives, before and after it accepted", async () => {
    const drives = [{ serial, state: 'mounted' as const, sizeBytes: 1, mountPoint: '/drives/data', readOnly: false }]
    const { session } = await sessionPair({
      handlers: {
        async 'drive-lock'(call) {
          call.accept({ locked: true, holders: [] })
          throw new MortarError('drive-busy')
        },
        async 'drive-unlock'() {
          throw new MortarError('drive-detached')
        },
        'drive-list': async call => call.accept({ drives }),
      },
    })
    await expect(lockDrive(session, driveWith(headerDigest))).rejects.toMatchObject({ code: 'drive-busy' })
    const unlocking = unlockDrive(identity, session, driveWith(headerDigest), { readOnly: false })
    await expect(unlocking).rejects.toMatchObject({ code: 'drive-detached' })
    expect(await listDrives(session)).toEqual(drives)
  })
})
