/**
 * `npm run brick`: builds the Debian 12 brick (image and signed manifest) around the agent binary. Both steps are cached,
 * so a second run needs neither network nor work.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { signManifest } from '../protocol/control/manifest.ts'
import { buildBase } from './build-base.ts'
import { buildProgram } from './build-binaries.ts'
import { buildImage } from './build-image.ts'
import { RECIPE } from './debian-12/recipe.ts'
import { asProgram, digestFile, digestOf, type Progress } from './steps.ts'

/** bricks of one name that stay in the cache */
const KEPT = 3
const DIGEST = /^[0-9a-f]{16}$/

export interface BrickOptions {
  readonly agentBinary: string
  readonly agentVersion: string
  readonly cacheDir: string
  /** Ed25519 seed of the builder, made on first use */
  readonly keyPath: string
  /** adds kernel options that suit tests under software emulation */
  readonly test: boolean
}

export interface Brick {
  readonly imagePath: string
  readonly manifestPath: string
}

/** Builds or finds the brick. Root only. */
export async function buildBrick(options: BrickOptions, progress: Progress): Promise<Brick> {
  const { cacheDir, test } = options
  const baseTar = await buildBase(cacheDir, progress)
  const recipe = [
    JSON.stringify(RECIPE),
    await treeDigest(),
    await readFile(new URL('build-image.ts', import.meta.url), 'utf8'),
    await readFile(new URL('initial-ram-disk.ts', import.meta.url), 'utf8'),
  ]
  const digest = digestOf([baseTar, await digestFile(options.agentBinary), String(test), ...recipe])
  const name = test ? `${RECIPE.name}-test` : RECIPE.name
  const folder = join(cacheDir, `${name}-${digest}`)
  const brick = { imagePath: join(folder, 'brick.qcow2'), manifestPath: join(folder, 'brick.json') }
  if (!existsSync(brick.imagePath)) await assemble(options, baseTar, folder, progress)
  await writeManifest(options, name, brick)
  return brick
}

async function assemble(options: BrickOptions, baseTar: string, folder: string, progress: Progress): Promise<void> {
  const workDir = await mkdtemp(join(options.cacheDir, 'build-'))
  try {
    const partial = join(workDir, 'brick.qcow2')
    await buildImage(
      { baseTar, agentBinary: options.agentBinary, workDir, imagePath: partial, test: options.test, selfTest: true },
      progress,
    )
    await mkdir(folder, { recursive: true })
    await rename(partial, join(folder, 'brick.qcow2'))
    await prune(options.cacheDir, options.test ? `${RECIPE.name}-test-` : `${RECIPE.name}-`)
  } finally {
    await rm(workDir, { recursive: true, force: true })
  }
}

/** Removes all but the newest bricks of a name: each change of the agent makes another half a gigabyte. */
async function prune(cacheDir: string, prefix: string): Promise<void> {
  const folders = (await readdir(cacheDir)).filter(
    name => name.startsWith(prefix) && DIGEST.test(name.slice(prefix.length)),
  )
  const aged = await Promise.all(
    folders.map(async name => ({ path: join(cacheDir, name), mtimeMs: (await stat(join(cacheDir, name))).mtimeMs })),
  )
  const old = aged.sort((one, other) => other.mtimeMs - one.mtimeMs).slice(KEPT)
  for (const { path } of old) await rm(path, { recursive: true, force: true })
}

async function writeManifest(options: BrickOptions, name: string, brick: Brick): Promise<void> {
  if (existsSync(brick.manifestPath)) return
  const seed = await builderSeed(options.keyPath)
  const manifest = signManifest(
    {
      format: 1,
      name,
      version: RECIPE.version,
      sizeBytes: (await stat(brick.imagePath)).size,
      virtualSizeBytes: RECIPE.diskBytes,
      sha256: await digestFile(brick.imagePath),
      agentVersion: options.agentVersion,
      createdAt: new Date().toISOString(),
    },
    seed,
  )
  seed.fill(0)
  await writeFile(brick.manifestPath, `${JSON.stringify(manifest, null, 2)}\n`)
}

async function builderSeed(path: string): Promise<Uint8Array> {
  if (!existsSync(path)) {
    await mkdir(dirname(path), { recursive: true, mode: 0o700 })
    await writeFile(path, randomBytes(32), { mode: 0o600, flag: 'wx' })
  }
  return readFile(path)
}

async function treeDigest(): Promise<string> {
  const tree = new URL('debian-12/tree/', import.meta.url).pathname
  const files = (await readdir(tree, { recursive: true, withFileTypes: true })).filter(entry => entry.isFile())
  const paths = files.map(entry => join(entry.parentPath, entry.name)).sort()
  return digestOf(
    await Promise.all(paths.map(async path => `${path.slice(tree.length)}\n${await readFile(path, 'utf8')}`)),
  )
}

const HELP = `Usage: npm run brick [-- OPTIONS]

Builds the Debian 12 brick (image and signed manifest) with the agent inside. Needs root.

  --cache DIR   where base tree and bricks are kept (default /var/cache/mortar)
  --key FILE    the builder's Ed25519 seed, made on first use (default /var/lib/mortar/builder.key)
  --test        for tests under software emulation: no CPU mitigations

Example:
  npm run brick
  mortar brick import /var/cache/mortar/debian-12-…/brick.qcow2`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      cache: { type: 'string', default: '/var/cache/mortar' },
      key: { type: 'string', default: '/var/lib/mortar/builder.key' },
      test: { type: 'boolean', default: false },
      help: { type: 'boolean', short: 'h' },
    },
  })
  if (values.help) return console.log(HELP)
  const progress = (line: string) => console.error(line)
  const { path: agentBinary, version: agentVersion } = await buildProgram('mortar-agent', progress)
  const { cache: cacheDir, key: keyPath, test } = values
  const brick = await buildBrick({ agentBinary, agentVersion, cacheDir, keyPath, test }, progress)
  console.log(JSON.stringify(brick, null, 2))
}

if (import.meta.main) await asProgram('npm run brick', main)
