/**
 * `npm run brick`: builds the Debian 12 brick (image and signed manifest) around the agent binary. Every step is cached,
 * so a second run needs neither network nor work.
 */
import { existsSync } from 'node:fs'
import { mkdir, mkdtemp, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { parseArgs } from 'node:util'
import { buildBase } from './build-base.ts'
import { buildProgram } from './build-binaries.ts'
import { buildImage } from './build-image.ts'
import { RECIPE } from './debian-12/recipe.ts'
import { type Brick, signBrick } from './sign-brick.ts'
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
  const imagePath = join(folder, 'image.qcow2')
  if (!existsSync(imagePath)) await assemble(options, baseTar, imagePath, progress)
  return signBrick({ imagePath, name, agentVersion: options.agentVersion, keyPath: options.keyPath })
}

async function assemble(options: BrickOptions, baseTar: string, imagePath: string, progress: Progress): Promise<void> {
  const workDir = await mkdtemp(join(options.cacheDir, 'build-'))
  try {
    const partial = join(workDir, 'image.qcow2')
    await buildImage(
      { baseTar, agentBinary: options.agentBinary, workDir, imagePath: partial, test: options.test, selfTest: true },
      progress,
    )
    await mkdir(dirname(imagePath), { recursive: true })
    await rename(partial, imagePath)
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
  --key FILE    the builder's Ed25519 seed, made on first use (default /etc/mortar/builder.key)
  --test        for tests under software emulation: no CPU mitigations
  --yes         install missing Debian packages without asking

Example:
  npm run brick
  mortar brick import /var/cache/mortar/debian-12-…/…/brick.qcow2`

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      cache: { type: 'string', default: '/var/cache/mortar' },
      key: { type: 'string', default: '/etc/mortar/builder.key' },
      test: { type: 'boolean', default: false },
      yes: { type: 'boolean' },
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
