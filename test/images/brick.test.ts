/** The brick's recipe does not contradict itself, and a brick in the cache is what its manifest says. */
import { createHash } from 'node:crypto'
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import { join } from 'node:path'
import { expect, test } from 'vitest'
import { inspectImage } from '../../broker/images/overlay.ts'
import { RECIPE } from '../../images/debian-12/recipe.ts'
import { signBrick } from '../../images/sign-brick.ts'
import { digestFile, digestOf, requireTools, run } from '../../images/steps.ts'
import { openManifest } from '../../protocol/control/manifest.ts'

const CACHE = '/var/cache/mortar'
const TREE = new URL('../../images/debian-12/tree/', import.meta.url).pathname
const units = readdirSync(join(TREE, 'etc/systemd/system')).filter(name => /\.\w+$/.test(name) && !name.endsWith('.d'))

test('no unit is both masked and wanted', () => {
  const masked = new Set<string>(RECIPE.maskedUnits)
  expect([...RECIPE.enabledUnits, ...RECIPE.lateUnits].filter(unit => masked.has(unit))).toEqual([])
  expect(units.filter(unit => masked.has(unit))).toEqual([])
  expect(masked.size).toBe(RECIPE.maskedUnits.length)
})

test('every unit that the tree brings is enabled, or started by one that is', () => {
  const enabled = new Set<string>(RECIPE.enabledUnits)
  for (const unit of units) {
    const timer = unit.replace(/\.service$/, '.timer')
    expect(enabled.has(unit) || (timer !== unit && enabled.has(timer)), unit).toBe(true)
  }
  expect(enabled).toContain('mortar-agent.service')
})

test('nothing listens before the agent says so, and nothing logs to the disk', () => {
  for (const unit of ['ssh.service', 'ssh.socket', 'serial-getty@ttyS0.service'])
    expect(RECIPE.maskedUnits).toContain(unit)
  expect(readFileSync(join(TREE, 'etc/systemd/journald.conf.d/volatile.conf'), 'utf8')).toContain('Storage=volatile')
})

test('freed memory is zeroed in every brick, also in those for tests', () => {
  expect(RECIPE.kernelOptions.split(' ')).toContain('init_on_free=1')
  expect(RECIPE.testKernelOptions).not.toContain('init_on_free')
})

test('a digest tells texts apart however they are cut', () => {
  expect(digestOf(['ab', 'c'])).not.toBe(digestOf(['a', 'bc']))
  expect(digestOf(['ab', 'c'])).toBe(digestOf(['ab', 'c']))
})

test('a step that fails says which tool and why; a missing tool says what to install', async () => {
  await expect(run('sh', ['-c', 'echo the reason >&2; exit 3'])).rejects.toThrow(/sh ended with 3:\nthe reason/)
  await expect(run('mortar-no-such-tool', [])).rejects.toThrow(/cannot be started/)
  expect(() => requireTools({ sh: 'dash', 'mortar-no-such-tool': 'no-package' })).toThrow(
    /mortar-no-such-tool missing; apt-get install no-package/,
  )
})

test('a brick in the cache is what its signed manifest says', async ({ skip }) => {
  const folders = existsSync(CACHE) ? readdirSync(CACHE).filter(name => name.startsWith(`${RECIPE.name}-`)) : []
  const folder = folders
    .flatMap(name => readdirSync(join(CACHE, name), { withFileTypes: true }))
    .map(entry => join(entry.parentPath, entry.name))
    .find(path => existsSync(join(path, 'brick.json')))
  if (!folder) return skip('no brick was built here: npm run brick')
  const manifest = openManifest(readFileSync(join(folder, 'brick.json'), 'utf8'))
  const image = join(folder, 'brick.qcow2')
  expect(manifest.name.startsWith(RECIPE.name)).toBe(true)
  expect(manifest.sizeBytes).toBe(statSync(image).size)
  expect(manifest.sha256).toBe(await digestFile(image))
  expect((await inspectImage(image)).virtualSizeBytes).toBe(manifest.virtualSizeBytes)
})

test('a brick is signed by the key that was asked for, whoever signed its image before', async ({ onTestFinished }) => {
  const folder = mkdtempSync(join(tmpdir(), 'mortar-sign-test-'))
  onTestFinished(() => rmSync(folder, { recursive: true }))
  const imagePath = join(folder, 'image.qcow2')
  writeFileSync(imagePath, 'an image')
  const signedBy = (key: string) =>
    signBrick({ imagePath, name: 'debian-12', agentVersion: '1', keyPath: join(folder, 'keys', key) })
  const [one, other, again] = [await signedBy('one.key'), await signedBy('other.key'), await signedBy('one.key')]
  const manifest = (brick: typeof one) => openManifest(readFileSync(brick.manifestPath, 'utf8'))
  expect(manifest(one).builder).not.toBe(manifest(other).builder)
  expect(again).toEqual(one)
  for (const brick of [one, other]) {
    expect(manifest(brick).sha256).toBe(await digestFile(brick.imagePath))
    expect(statSync(brick.imagePath).ino).toBe(statSync(imagePath).ino)
  }
  expect(statSync(join(folder, 'keys', 'one.key')).mode & 0o777).toBe(0o600)
  // a folder that others must pass is not closed for the key's sake
  expect(statSync(join(folder, 'keys')).mode & 0o001).toBe(0o001)
  writeFileSync(join(folder, 'keys', 'short.key'), 'short')
  await expect(signedBy('short.key')).rejects.toThrow('does not hold 32 bytes')
})

test('a whole file is hashed', async () => {
  const path = import.meta.filename
  expect(await digestFile(path)).toBe(createHash('sha256').update(readFileSync(path)).digest('hex'))
})
