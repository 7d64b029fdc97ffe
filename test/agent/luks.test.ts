/** LUKS2 headers with the real cryptsetup, on a file: made in memory, measured, and opened from the copy. SPEC §9.4 */
import { randomBytes, randomUUID } from 'node:crypto'
import { mkdtempSync, rmSync, truncateSync, writeFileSync } from 'node:fs'
import { open } from 'node:fs/promises'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterEach, beforeEach, expect, test } from 'vitest'
import {
  HEADER_BYTES,
  headerDigest,
  isBlank,
  isLuks,
  luksFormat,
  luksTest,
  readHeader,
} from '../../agent/guest/luks.ts'
import { runTool } from '../../agent/guest/tool.ts'
import { describeUnless, missingOf } from '../support/possible.ts'

const SIZE = 32 * 2 ** 20

describeUnless(missingOf({ '/usr/sbin/cryptsetup': 'cryptsetup-bin' }), 'LUKS2 headers, on a file', () => {
  let folder: string
  let volume: string
  const key = new Uint8Array(randomBytes(64))
  beforeEach(() => {
    folder = mkdtempSync(join(tmpdir(), 'mortar-luks-'))
    volume = join(folder, 'volume')
    writeFileSync(volume, '')
    truncateSync(volume, SIZE)
  })
  afterEach(() => rmSync(folder, { recursive: true, force: true }))

  const headerCopy = async () => {
    const path = join(folder, 'header')
    writeFileSync(path, await readHeader(volume))
    return path
  }

  test('a blank volume is blank until it is formatted', async () => {
    expect(await isBlank(volume, SIZE)).toBe(true)
    expect(isLuks(await readHeader(volume))).toBe(false)
    await luksFormat(volume, { id: randomUUID(), label: 'data', headerPath: join(folder, 'made'), key })
    expect(await isBlank(volume, SIZE)).toBe(false)
    expect(isLuks(await readHeader(volume))).toBe(true)
  })

  test('a byte in the last MiB is found', async () => {
    const file = await open(volume, 'r+')
    await file.write(Uint8Array.of(1), 0, 1, SIZE - 1)
    await file.close()
    expect(await isBlank(volume, SIZE)).toBe(false)
  })

  test('the header is as long as is measured, with the cipher and place that are asked for', async () => {
    await luksFormat(volume, { id: randomUUID(), label: 'data', headerPath: join(folder, 'made'), key })
    const { stdout } = await runTool('cryptsetup', ['luksDump', '--dump-json-metadata', volume])
    const { config, keyslots, segments } = JSON.parse(stdout)
    expect(2 * (Number(config.json_size) + 4096) + Number(config.keyslots_size)).toBe(HEADER_BYTES)
    expect(Object.keys(keyslots)).toEqual(['0'])
    expect(segments['0']).toMatchObject({ encryption: 'aes-xts-plain64', type: 'crypt' })
    expect(Number(segments['0'].offset)).toBeGreaterThanOrEqual(HEADER_BYTES)
  })

  test('the key opens the copied header, even when the one on the volume is gone', async () => {
    await luksFormat(volume, { id: randomUUID(), label: 'data', headerPath: join(folder, 'made'), key })
    const header = await headerCopy()
    writeFileSync(volume, '')
    truncateSync(volume, SIZE)
    await luksTest(volume, header, key)
  })

  test('another key does not, and a key of another length is not tried', async () => {
    await luksFormat(volume, { id: randomUUID(), label: 'data', headerPath: join(folder, 'made'), key })
    const header = await headerCopy()
    await expect(luksTest(volume, header, randomBytes(64))).rejects.toMatchObject({ code: 'drive-key-wrong' })
    await expect(luksTest(volume, header, randomBytes(32))).rejects.toMatchObject({ code: 'bad-request' })
  })

  test('the header is the one that was made in memory, whatever the volume shows afterwards', async () => {
    const headerPath = join(folder, 'made')
    const made = await luksFormat(volume, { id: randomUUID(), label: 'data', headerPath, key })
    expect(await readHeader(volume)).toEqual(made)
    expect(await readHeader(headerPath)).toEqual(made)
    await luksTest(volume, headerPath, key)
  })

  test('formatting changes nothing behind the header', async () => {
    const file = await open(volume, 'r+')
    await file.write(Buffer.alloc(4096, 7), 0, 4096, HEADER_BYTES)
    await luksFormat(volume, { id: randomUUID(), label: 'data', headerPath: join(folder, 'made'), key })
    const behind = Buffer.alloc(4096)
    await file.read(behind, 0, 4096, HEADER_BYTES)
    await file.close()
    expect(behind).toEqual(Buffer.alloc(4096, 7))
  })

  test('any change of the header changes its digest', async () => {
    await luksFormat(volume, { id: randomUUID(), label: 'data', headerPath: join(folder, 'made'), key })
    const header = await readHeader(volume)
    const digest = headerDigest(header)
    for (const offset of [0, 8, 4096, 20_000, 40_000, HEADER_BYTES - 1]) {
      const forged = Buffer.from(header)
      forged[offset] = (forged[offset] as number) ^ 1
      expect(headerDigest(forged)).not.toEqual(digest)
    }
  })
})
