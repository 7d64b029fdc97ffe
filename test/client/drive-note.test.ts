/** Drive notes: what the owner wrote comes back, and nothing else passes. */
import { expect, test } from 'vitest'
import { openDriveNote, sealDriveNote } from '../../client/drives/drive-note.ts'
import { Identity } from '../../client/identity/identity.ts'
import { nobleSuite } from '../../protocol/channel/noble-suite.ts'
import { decodeBase64url, encodeBase64url } from '../../protocol/core/bytes.ts'

const identity = Identity.fromSeed(
  nobleSuite,
  Uint8Array.from({ length: 32 }, (_, i) => i + 1),
)
const vm = '11111111-1111-4111-8111-111111111111'
const drive = '33333333-3333-4333-8333-333333333333'
const salt = new Uint8Array(32).fill(3)
const headerDigest = new Uint8Array(32).fill(4)

test('say what was put in, before and after formatting', () => {
  for (const note of [
    { salt, headerDigest: null },
    { salt, headerDigest },
  ]) {
    const sealed = sealDriveNote(identity, drive, note)
    expect(sealed.length).toBeLessThan(300)
    expect(openDriveNote(identity, drive, sealed)).toEqual(note)
  }
})

test('a note that was changed is refused', () => {
  const sealed = decodeBase64url(sealDriveNote(identity, drive, { salt, headerDigest }))
  for (let i = 0; i < sealed.length; i++) {
    const changed = sealed.slice()
    changed[i] = (changed[i] as number) ^ 1
    expect(() => openDriveNote(identity, drive, encodeBase64url(changed)), `byte ${i}`).toThrowError(
      expect.objectContaining({ code: 'drive-note' }),
    )
  }
})

test("another drive's or another owner's note is refused", () => {
  const sealed = sealDriveNote(identity, drive, { salt, headerDigest })
  const other = Identity.create(nobleSuite)
  expect(() => openDriveNote(identity, vm, sealed)).toThrowError(expect.objectContaining({ code: 'drive-note' }))
  expect(() => openDriveNote(other, drive, sealed)).toThrowError(expect.objectContaining({ code: 'drive-note' }))
  expect(() => openDriveNote(identity, drive, '***')).toThrowError(expect.objectContaining({ code: 'drive-note' }))
})
