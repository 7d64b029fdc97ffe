/** Drives in a real VM: LUKS2 with a key that only the owner can derive, and what the host sees of it. SPEC §9.4 */
import { readdirSync } from 'node:fs'
import { copyFile, open, readFile, rm } from 'node:fs/promises'
import { join } from 'node:path'
import { gzipSync } from 'node:zlib'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { openDriveNote } from '../../client/drives/drive-note.ts'
import { findDrive } from '../../client/drives/drives.ts'
import { driveUnlock } from '../../protocol/commands/drives.ts'
import { copySecret } from '../../protocol/core/secret.ts'
import { describeGuest } from '../support/guest-ring.ts'
import { Machine } from '../support/machine.ts'
import { driveKeyOf, handsOf, sessionWith } from '../support/person.ts'
import { forms, holdsFile, searchFiles, searchMemory } from '../support/search.ts'

const MARK = 'a sentence that nobody outside this VM may read'

describeGuest('drives', () => {
  let machine: Machine

  beforeAll(async () => {
    machine = await Machine.start()
    await machine.launch(owner(), 'lab')
    await machine.must(owner(), ['drive', 'create', 'data', '--size', '64M'])
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
  })
  afterAll(() => machine?.dispose())

  const owner = () => machine.people.owner
  const failed = async (...args: string[]) => {
    const { code, stderr } = await machine.mortar(owner(), ['--json', ...args])
    return { exit: code, ...(JSON.parse(stderr) as { error: { code: string } }).error }
  }
  const rawPath = () => {
    const folder = join(machine.dataDir, 'drives')
    return join(folder, readdirSync(folder)[0] ?? '')
  }

  test('a drive that was never formatted is not unlocked', async () => {
    expect(await failed('drive', 'unlock', 'data')).toMatchObject({ exit: 6, code: 'drive-blank' })
  })

  test('a drive is formatted, unlocked and mounted with a key that only the client holds', async () => {
    const unlocked = await machine.must(owner(), ['drive', 'unlock', 'data', '--format'])
    expect(unlocked).toMatchObject({ mountPoint: '/drives/data' })
    const types = await machine.inVm(owner(), 'lab', ['lsblk', '-rno', 'TYPE,FSTYPE,MOUNTPOINTS'], { user: 'root' })
    expect(types).toContain('crypto_LUKS')
    expect(types).toMatch(/crypt ext4 \/drives\/data/)
    await machine.inVm(owner(), 'lab', [
      'sh',
      '-c',
      `for i in $(seq 1000); do echo '${MARK}'; done > /drives/data/text`,
    ])
    await machine.inVm(owner(), 'lab', ['sync'])
  })

  test("the drive's content is ciphertext on the host", async () => {
    const mark = [Buffer.from(MARK)]
    expect(await holdsFile(rawPath(), mark)).toBe(false)
    // what is not on a drive is not encrypted: the same search finds it there
    await machine.inVm(owner(), 'lab', ['sh', '-c', `for i in $(seq 1000); do echo '${MARK}'; done > ~/text; sync`])
    expect(await searchFiles(join(machine.dataDir, 'vms'), mark)).toHaveLength(1)
    // written ciphertext does not compress; the area is behind header and journal
    const used = (await readFile(rawPath())).subarray(0, 32 * 2 ** 20)
    const blocks = Array.from({ length: used.length / 4096 }, (_, i) => used.subarray(4096 * i, 4096 * (i + 1)))
    const written = Buffer.concat(blocks.slice(256).filter(block => block.some(byte => byte !== 0)))
    expect(written.length).toBeGreaterThan(40_000)
    expect(gzipSync(written).length / written.length).toBeGreaterThan(0.99)
  })

  test("no byte of a delivered LUKS key is in the broker's memory, database, logs or files", async () => {
    const key = await driveKeyOf(await handsOf(machine, owner()), 'data')
    const needles = forms(key)
    expect(await searchMemory(machine.brokerPid, needles)).toEqual([])
    expect(await searchFiles(machine.dataDir, needles)).toEqual([])
    expect(await holdsFile(machine.logPath, needles)).toBe(false)
    // the searches find what is there: the broker's own key in its memory and its file
    const own = forms(await readFile(join(machine.dataDir, 'broker.key')))
    expect(await searchMemory(machine.brokerPid, own)).not.toEqual([])
    expect(await searchFiles(machine.dataDir, own)).toEqual([join(machine.dataDir, 'broker.key')])
  })

  test('formatting a drive that holds data is refused unless it may be erased', async () => {
    await machine.must(owner(), ['drive', 'lock', 'data'])
    expect(await failed('drive', 'unlock', 'data', '--format')).toMatchObject({ exit: 6, code: 'drive-not-empty' })
    await machine.must(owner(), ['drive', 'unlock', 'data'])
    expect(await machine.inVm(owner(), 'lab', ['head', '-n', '1', '/drives/data/text'])).toBe(`${MARK}\n`)
  })

  test('a wrong key does not open the drive', async () => {
    await machine.must(owner(), ['drive', 'lock', 'data'])
    const hands = await handsOf(machine, owner())
    const session = await sessionWith(hands, 'lab')
    try {
      const drive = await findDrive(hands.broker, 'data')
      const { headerDigest } = openDriveNote(hands.identity, drive.id, drive.note)
      const call = await session.open(driveUnlock, {
        drive: drive.id,
        serial: drive.serial,
        headerDigest: headerDigest ?? new Uint8Array(32),
        mountName: 'data',
        readOnly: false,
      })
      await call.sendSecret(copySecret(new Uint8Array(64).fill(7)))
      await expect(call.received().next()).rejects.toMatchObject({ code: 'drive-key-wrong' })
    } finally {
      session.close()
    }
    await machine.must(owner(), ['drive', 'unlock', 'data'])
  })

  test('a header that the host forged is refused, and the drive opens again once it is back', async () => {
    await machine.must(owner(), ['drive', 'detach', 'data'])
    const kept = join(machine.folder, 'kept.raw')
    await copyFile(rawPath(), kept)
    const raw = await open(rawPath(), 'r+')
    await raw.write(Buffer.from([0xff]), 0, 1, 8192)
    await raw.close()
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
    expect(await failed('drive', 'unlock', 'data')).toMatchObject({ code: 'drive-header' })
    await machine.must(owner(), ['drive', 'detach', 'data'])
    await copyFile(kept, rawPath())
    await rm(kept)
    await machine.must(owner(), ['drive', 'attach', 'data', 'lab'])
    await machine.must(owner(), ['drive', 'unlock', 'data'])
    expect(await machine.inVm(owner(), 'lab', ['head', '-n', '1', '/drives/data/text'])).toBe(`${MARK}\n`)
  })

  test('a drive that a program uses is not locked', async () => {
    const held = machine.mortar(owner(), ['exec', 'lab', '--cwd', '/drives/data', '--', 'sleep', '600'])
    await expect
      .poll(() => machine.inVm(owner(), 'lab', ['pgrep', '-c', '-x', 'sleep']).catch(() => ''), { timeout: 60_000 })
      .toBe('1\n')
    expect(await failed('drive', 'lock', 'data')).toMatchObject({ code: 'drive-busy' })
    await machine.inVm(owner(), 'lab', ['pkill', '-x', 'sleep'])
    await held
    await machine.must(owner(), ['drive', 'lock', 'data'])
  })
})
