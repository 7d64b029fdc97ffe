/** Overlays and the check of images, with the real qemu-img: small, over the right brick, and nothing hostile gets by. */
import { execFileSync, spawnSync } from 'node:child_process'
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { afterAll, beforeAll, expect, test } from 'vitest'
import { createOverlay, inspectImage } from '../../broker/images/overlay.ts'
import { createVolume, requireSpace } from '../../broker/images/volume.ts'

let directory: string
let brick: string
const at = (name: string) => join(directory, name)
const qemuImg = (...args: string[]) => execFileSync('qemu-img', args, { encoding: 'utf8' })
const failure = (code: string) => expect.objectContaining({ code })

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), 'mortar-overlay-'))
  brick = at('brick.qcow2')
  // a brick of 64 GiB with a little in it
  writeFileSync(at('seed.raw'), Buffer.alloc(1 << 20, 'brick'))
  qemuImg('convert', '-O', 'qcow2', at('seed.raw'), brick)
  qemuImg('resize', '-q', brick, '64G')
})
afterAll(() => rmSync(directory, { recursive: true, force: true }))

test('an overlay stands on its brick, is small whatever the size of it, and belongs to nobody else', async () => {
  const overlay = at('one.qcow2')
  await createOverlay(brick, at('templates'), overlay)
  const info = JSON.parse(qemuImg('info', '--output=json', overlay))
  expect(info['backing-filename']).toBe(brick)
  expect(info['backing-filename-format']).toBe('qcow2')
  expect(info['virtual-size']).toBe(64 * 2 ** 30)
  expect(statSync(overlay).size).toBeLessThan(2 ** 20)
  expect(statSync(overlay).mode & 0o777).toBe(0o600)
})

test('the template is made once, and again when the brick changed', async () => {
  const templates = at('reused')
  await createOverlay(brick, templates, at('two.qcow2'))
  await createOverlay(brick, templates, at('three.qcow2'))
  expect(readdirSync(templates)).toHaveLength(1)
  execFileSync('touch', ['-d', '2001-01-01', brick])
  await createOverlay(brick, templates, at('four.qcow2'))
  expect(readdirSync(templates)).toHaveLength(2)
})

test('an overlay that exists is left alone', async () => {
  await createOverlay(brick, at('templates'), at('kept.qcow2'))
  await expect(createOverlay(brick, at('templates'), at('kept.qcow2'))).rejects.toThrow(/EEXIST/)
  expect(statSync(at('kept.qcow2')).size).toBeGreaterThan(0)
})

test('a sound image passes with its size', async () => {
  expect(await inspectImage(brick)).toEqual({ virtualSizeBytes: 64 * 2 ** 30 })
})

test.each([
  ['is not qcow2', () => writeFileSync(at('bad'), 'MZ this is no image'.repeat(100))],
  ['is empty', () => writeFileSync(at('bad'), '')],
  ['is cut short', () => writeFileSync(at('bad'), readFileSync(brick).subarray(0, 70_000))],
  [
    'is raw and begins like another format',
    () => writeFileSync(at('bad'), Buffer.concat([Buffer.from('KDMV'), Buffer.alloc(4096)])),
  ],
  [
    'has a reference table that points nowhere',
    () => {
      const bytes = readFileSync(brick)
      bytes.writeBigUInt64BE(0x7fff_ffff_0000n, 48)
      writeFileSync(at('bad'), bytes)
    },
  ],
  [
    'names a backing file',
    () => qemuImg('create', '-q', '-f', 'qcow2', '-u', '-b', '/etc/shadow', '-F', 'raw', at('bad'), '1M'),
  ],
  [
    'names a data file',
    () => {
      qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${at('data.raw')},data_file_raw=on`, at('bad'), '1M')
    },
  ],
])('an image that %s is refused', async (_, make) => {
  rmSync(at('bad'), { force: true })
  make()
  await expect(inspectImage(at('bad'))).rejects.toEqual(failure('brick-corrupt'))
})

test('a full disk is said to be full, and leaves nothing behind', async ({ skip, onTestFinished }) => {
  const small = at('small')
  mkdirSync(small)
  if (spawnSync('mount', ['-t', 'tmpfs', '-o', 'size=64k', 'tmpfs', small]).status !== 0) skip('may not mount here')
  onTestFinished(() => void spawnSync('umount', [small]))
  await expect(createOverlay(brick, at('templates'), join(small, 'o.qcow2'))).rejects.toEqual(failure('no-space'))
  expect(readdirSync(small)).toEqual([])
  await expect(createOverlay(brick, join(small, 'templates'), at('never.qcow2'))).rejects.toEqual(failure('no-space'))
  await expect(requireSpace(small, 1)).rejects.toEqual(failure('no-space'))
})

test('a volume is as long as asked, sparse and private, and replaces nothing', async () => {
  await createVolume(at('volume.raw'), 64 << 20)
  const { size, blocks, mode } = statSync(at('volume.raw'))
  expect([size, blocks, mode & 0o777]).toEqual([64 << 20, 0, 0o600])
  await expect(createVolume(at('volume.raw'), 1)).rejects.toThrow(/EEXIST/)
  expect(statSync(at('volume.raw')).size).toBe(64 << 20)
})
