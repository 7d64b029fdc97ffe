/** Importing bricks: nothing but a sound, signed, self-contained image comes in. SPEC §2.5 */
import { execFileSync } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdirSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { join } from 'node:path'
import { afterEach, beforeEach, describe, expect, test } from 'vitest'
import { runProgram } from '../support/program.ts'
import { Rig } from './rig.ts'

let rig: Rig
beforeEach(async () => {
  rig = await Rig.start({ brick: false })
})
afterEach(() => rig.close())

type Files = { imagePath: string; manifestPath: string }
const load = (files: Files) =>
  rig.call('administrator', 'brick.import', { body: { imagePath: files.imagePath, manifestPath: files.manifestPath } })
const bricksFolder = () => readdirSync(join(rig.dataDir, 'bricks'))

/** The files of a brick whose manifest was changed after it was signed. */
function tampered(change: Record<string, unknown>): Files {
  const files = rig.makeBrick('bent')
  const manifest = JSON.parse(readFileSync(files.manifestPath, 'utf8'))
  writeFileSync(files.manifestPath, JSON.stringify({ ...manifest, ...change }))
  return files
}

/** A brick over an image that `make` changes; its manifest is honest about it. */
function imageOf(make: (path: string) => void): Files {
  const path = join(rig.folder, 'made.qcow2')
  make(path)
  return rig.makeBrick('bent', { image: path })
}
const qemuImg = (...args: string[]) => execFileSync('qemu-img', args)

describe('import', () => {
  const cases: [string, () => Files, string][] = [
    [
      'a brick of an unknown builder',
      () => rig.makeBrick('bent', { seed: new Uint8Array(randomBytes(32)) }),
      'brick-signature',
    ],
    ['a tampered manifest', () => tampered({ version: '2' }), 'brick-signature'],
    ['a manifest with one more member', () => tampered({ more: 1 }), 'brick-signature'],
    ['a manifest that is none', () => ({ ...rig.makeBrick('bent'), manifestPath: '/etc/hostname' }), 'brick-signature'],
    [
      'an image of another digest',
      () => rig.makeBrick('bent', { manifest: { sha256: '0'.repeat(64) } }),
      'brick-digest',
    ],
    ['an image of another size', () => rig.makeBrick('bent', { manifest: { sizeBytes: 5 } }), 'brick-digest'],
    ['a disk of another size', () => rig.makeBrick('bent', { manifest: { virtualSizeBytes: 5 } }), 'brick-corrupt'],
    ['an image that is no qcow2', () => imageOf(path => writeFileSync(path, randomBytes(100_000))), 'brick-corrupt'],
    ['an empty image', () => imageOf(path => writeFileSync(path, '')), 'brick-corrupt'],
    [
      'a corrupt qcow2',
      () =>
        imageOf(path => {
          qemuImg('create', '-q', '-f', 'qcow2', path, '16M')
          const bytes = readFileSync(path)
          bytes.fill(0xff, 65_536, 65_536 * 2)
          writeFileSync(path, bytes)
        }),
      'brick-corrupt',
    ],
    [
      'a qcow2 with a backing file of the host',
      () => imageOf(path => qemuImg('create', '-q', '-f', 'qcow2', '-b', '/etc/passwd', '-F', 'raw', path, '16M')),
      'brick-corrupt',
    ],
    [
      'a qcow2 with its data in a file of the host',
      () =>
        imageOf(path =>
          qemuImg('create', '-q', '-f', 'qcow2', '-o', `data_file=${path}.raw,data_file_raw=on`, path, '16M'),
        ),
      'brick-corrupt',
    ],
    ['an image that is not there', () => ({ ...rig.makeBrick('bent'), imagePath: '/nowhere' }), 'not-found'],
    ['an image that has no end', () => ({ ...rig.makeBrick('bent'), imagePath: '/dev/zero' }), 'not-found'],
    ['a manifest that has no end', () => ({ ...rig.makeBrick('bent'), manifestPath: '/dev/zero' }), 'not-found'],
  ]

  test.each(cases)('refuses %s and keeps nothing of it', async (_what, make, code) => {
    expect((await load(make())).code).toBe(code)
    expect(bricksFolder()).toEqual([])
    expect((await rig.call('owner', 'brick.list')).json).toEqual({ bricks: [] })
  })

  test('says which of image and manifest is missing', async () => {
    const files = rig.makeBrick('bent')
    expect((await load({ ...files, imagePath: '/no.qcow2' })).json.error.detail).toContain('the image /no.qcow2')
    expect((await load({ ...files, manifestPath: '/no.json' })).json.error.detail).toContain('the manifest /no.json')
  })

  test('may be repeated, also at the same time', async () => {
    const files = rig.makeBrick('twice')
    const answers = await Promise.all([load(files), load(files), load(files)])
    expect(answers.map(({ status }) => status)).toEqual([200, 200, 200])
    expect(bricksFolder()).toEqual([`${files.sha256}.qcow2`])
    expect(readFileSync(join(rig.dataDir, 'bricks', `${files.sha256}.qcow2`))).toEqual(readFileSync(files.imagePath))
    expect((await rig.call('owner', 'brick.list')).json.bricks).toHaveLength(1)
  })

  test('what an import that was cut short left behind goes at the next start', async () => {
    await rig.stopBroker()
    writeFileSync(join(rig.dataDir, 'bricks', `${'0'.repeat(64)}.qcow2.partial`), 'half')
    await rig.startBroker()
    expect(bricksFolder()).toEqual([])
  })

  test('without room for the image says no-space and keeps nothing', async ({ skip }) => {
    const mounted = join(rig.folder, 'small')
    mkdirSync(mounted)
    const { code, stderr } = await runProgram('mount', ['-t', 'tmpfs', '-o', 'size=8M', 'tmpfs', mounted])
    if (code !== 0) skip(`no tmpfs can be mounted here: ${stderr.trim()}`)
    const small = new Rig({ dataDir: join(mounted, 'data') })
    try {
      await small.startBroker()
      const files = small.makeBrick('big')
      const body = { imagePath: files.imagePath, manifestPath: files.manifestPath }
      expect((await small.call('administrator', 'brick.import', { body })).code).toBe('no-space')
      expect(readdirSync(join(mounted, 'data', 'bricks'))).toEqual([])
      const drive = { id: '11111111-1111-4111-8111-111111111111', name: 'd', sizeBytes: 2 ** 30, note: '' }
      expect((await small.call('owner', 'drive.create', { body: drive })).code).toBe('no-space')
      expect((await small.call('owner', 'drive.list')).json).toEqual({ drives: [] })
      // now not even the database can grow
      writeFileSync(join(mounted, 'filler'), Buffer.alloc(2 ** 20))
      expect(() => {
        for (let i = 0; i < 64; i++) writeFileSync(join(mounted, `filler-${i}`), Buffer.alloc(2 ** 20))
      }).toThrow(/ENOSPC/)
      const key = `ssh-ed25519 ${Buffer.concat([Buffer.from([0, 0, 0, 11]), Buffer.from('ssh-ed25519'), randomBytes(300)]).toString('base64')}`
      const codes = new Set<string | undefined>()
      for (let i = 0; i < 4; i++) codes.add((await small.call('owner', 'ssh.key', { body: { publicKey: key } })).code)
      expect(codes.has('internal')).toBe(false)
      expect((await small.call('owner', 'vm.list')).status).toBe(200)
    } finally {
      await small.close()
      await runProgram('umount', [mounted])
    }
  })
})

describe('delete', () => {
  test('is refused while a VM runs over the brick, and takes image and template with it afterwards', async () => {
    await rig.importBrick('stone')
    const { vm } = await rig.launch('over-it')
    expect((await rig.call('administrator', 'brick.delete', { id: 'stone' })).code).toBe('brick-in-use')
    expect(bricksFolder()).toHaveLength(1)
    await rig.call('owner', 'vm.delete', { id: vm.id })
    expect((await rig.call('administrator', 'brick.delete', { id: 'stone' })).status).toBe(200)
    expect(bricksFolder()).toEqual([])
    expect(readdirSync(join(rig.dataDir, 'templates'))).toEqual([])
    expect((await rig.call('administrator', 'brick.delete', { id: 'stone' })).code).toBe('brick-unknown')
  })

  test('never touches a brick that was changed on the disk behind the broker', async () => {
    await rig.importBrick('stone')
    rmSync(join(rig.dataDir, 'bricks', `${rig.brickSha256}.qcow2`))
    const launch = rig.sign()
    expect((await rig.post(launch, 'gone')).status).toBeGreaterThanOrEqual(400)
    expect(rig.driver.domains.size).toBe(0)
    expect(readdirSync(join(rig.dataDir, 'vms'))).toEqual([])
  })
})
