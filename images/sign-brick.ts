/**
 * Step three of a brick: image → signed brick. Each builder's key has a folder of its own beside the image, with the image
 * (a hard link) and the manifest that this key signed: another key never finds the manifest of the first.
 */
import { randomBytes } from 'node:crypto'
import { existsSync } from 'node:fs'
import { link, mkdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises'
import { dirname, join } from 'node:path'
import { signManifest } from '../protocol/control/manifest.ts'
import { encodeHex } from '../protocol/core/bytes.ts'
import { MortarError } from '../protocol/core/errors.ts'
import { signingPublicKey } from '../protocol/core/signing.ts'
import { RECIPE } from './debian-12/recipe.ts'
import { digestFile } from './steps.ts'

export interface Brick {
  readonly imagePath: string
  readonly manifestPath: string
}

export interface BrickParts {
  /** qcow2; what is made lies in a folder beside it */
  readonly imagePath: string
  readonly name: string
  readonly agentVersion: string
  /** Ed25519 seed of the builder, made on first use */
  readonly keyPath: string
}

/** Signs the image by the key, or finds what that key signed before. Fails with bad-request for a file that is no key. */
export async function signBrick(parts: BrickParts): Promise<Brick> {
  const seed = await builderSeed(parts.keyPath)
  try {
    const folder = join(dirname(parts.imagePath), encodeHex(signingPublicKey(seed)).slice(0, 16))
    const brick = { imagePath: join(folder, 'brick.qcow2'), manifestPath: join(folder, 'brick.json') }
    if (existsSync(brick.manifestPath)) return brick
    await mkdir(folder, { recursive: true })
    await rm(brick.imagePath, { force: true })
    await link(parts.imagePath, brick.imagePath)
    const manifest = signManifest(
      {
        format: 1,
        name: parts.name,
        version: RECIPE.version,
        sizeBytes: (await stat(parts.imagePath)).size,
        virtualSizeBytes: RECIPE.diskBytes,
        sha256: await digestFile(parts.imagePath),
        agentVersion: parts.agentVersion,
        createdAt: new Date().toISOString(),
      },
      seed,
    )
    const partial = `${brick.manifestPath}.partial`
    await writeFile(partial, `${JSON.stringify(manifest, null, 2)}\n`)
    await rename(partial, brick.manifestPath)
    return brick
  } finally {
    seed.fill(0)
  }
}

async function builderSeed(path: string): Promise<Uint8Array> {
  if (!existsSync(path)) {
    // the folder may be one that others keep open files in, such as /etc/mortar: only the key is closed
    await mkdir(dirname(path), { recursive: true })
    await writeFile(path, randomBytes(32), { mode: 0o600, flag: 'wx' })
  }
  const seed = await readFile(path)
  if (seed.length !== 32) throw new MortarError('bad-request', `${path} is no builder's key: it does not hold 32 bytes`)
  return seed
}
