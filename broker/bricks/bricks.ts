/** Bricks: importing an image with its signed manifest, finding one, removing it. SPEC §2.5 */
import { createHash } from 'node:crypto'
import { existsSync } from 'node:fs'
import { chmod, open, readdir, readFile, rename, rm, stat } from 'node:fs/promises'
import { join } from 'node:path'
import { type Manifest, openManifest } from '../../protocol/control/manifest.ts'
import { decodeBase64url, equalBytes } from '../../protocol/core/bytes.ts'
import type { Clock } from '../../protocol/core/clock.ts'
import { MortarError } from '../../protocol/core/errors.ts'
import type { DataDir } from '../data-dir.ts'
import { inspectImage, spaceError } from '../images/overlay.ts'
import { requireSpace } from '../images/volume.ts'
import type { Log } from '../process/log.ts'
import type { Serialiser } from '../process/serialise.ts'
import type { BrickRecord, BrickStore } from '../store/brick-store.ts'

const COPY_BYTES = 1 << 20

export interface BricksParts {
  readonly store: BrickStore
  readonly dataDir: DataDir
  readonly clock: Clock
  readonly log: Log
  readonly builders: readonly Uint8Array[]
  /** imports and deletions come one after another: two of the same brick would write the same file */
  readonly serialiser: Serialiser
  /** whether any VM runs over the brick */
  inUse(sha256: string): boolean
}

export class Bricks {
  readonly #parts: BricksParts

  constructor(parts: BricksParts) {
    this.#parts = parts
  }

  list(): BrickRecord[] {
    return this.#parts.store.list()
  }

  byDigest(sha256: string): BrickRecord | undefined {
    return this.#parts.store.get(sha256)
  }

  pathOf(sha256: string): string {
    return join(this.#parts.dataDir.bricks, `${sha256}.qcow2`)
  }

  /** Copies an image of this host in, checking it on the way. Fails with not-found, brick-signature, brick-digest, brick-corrupt, no-space. */
  import(imagePath: string, manifestPath: string): Promise<BrickRecord> {
    return this.#parts.serialiser.run('bricks', () => this.#import(imagePath, manifestPath))
  }

  async #import(imagePath: string, manifestPath: string): Promise<BrickRecord> {
    const imageBytes = await sizeOf('image', imagePath)
    const manifest = openManifest(await readManifest(manifestPath))
    if (!this.#parts.builders.some(key => equalBytes(key, decodeBase64url(manifest.builder)))) {
      throw new MortarError('brick-signature', `builder ${manifest.builder}`)
    }
    const path = this.pathOf(manifest.sha256)
    if (!existsSync(path)) await this.#copyIn(imagePath, imageBytes, path, manifest)
    const brick: BrickRecord = {
      name: manifest.name,
      version: manifest.version,
      sha256: manifest.sha256,
      sizeBytes: manifest.sizeBytes,
      virtualSizeBytes: manifest.virtualSizeBytes,
      agentVersion: manifest.agentVersion,
      builder: manifest.builder,
      importedAt: new Date(this.#parts.clock.now()).toISOString(),
    }
    this.#parts.store.save(brick)
    this.#parts.log.info('brick.imported', { name: brick.name, sha256: brick.sha256 })
    return brick
  }

  async #copyIn(imagePath: string, size: number, path: string, manifest: Manifest): Promise<void> {
    if (size !== manifest.sizeBytes) {
      throw new MortarError('brick-digest', `${imagePath} has ${size} bytes, its manifest says ${manifest.sizeBytes}`)
    }
    await requireSpace(this.#parts.dataDir.root, size)
    const partial = `${path}.partial`
    try {
      const sha256 = await copyHashing(imagePath, partial, size)
      if (sha256 !== manifest.sha256) throw new MortarError('brick-digest', `${imagePath} is ${sha256}`)
      const { virtualSizeBytes } = await inspectImage(partial)
      if (virtualSizeBytes !== manifest.virtualSizeBytes) {
        throw new MortarError(
          'brick-corrupt',
          `its disk has ${virtualSizeBytes} bytes, not ${manifest.virtualSizeBytes}`,
        )
      }
      // read-only for everyone, QEMU's user included: VMs write to their overlays
      await chmod(partial, 0o444)
      await rename(partial, path)
    } catch (cause) {
      throw spaceError(cause, partial)
    } finally {
      await rm(partial, { force: true })
    }
  }

  /** Removes all bricks of a name. Fails with brick-unknown or brick-in-use. */
  delete(name: string): Promise<void> {
    return this.#parts.serialiser.run('bricks', () => this.#delete(name))
  }

  async #delete(name: string): Promise<void> {
    const bricks = this.list().filter(brick => brick.name === name)
    if (bricks.length === 0) throw new MortarError('brick-unknown', name)
    const used = bricks.find(brick => this.#parts.inUse(brick.sha256))
    if (used) throw new MortarError('brick-in-use', `${name} (${used.sha256.slice(0, 12)})`)
    for (const { sha256 } of bricks) {
      this.#parts.store.remove(sha256)
      await rm(this.pathOf(sha256), { force: true })
      await this.#removeFiles(this.#parts.dataDir.templates, file => file.startsWith(sha256))
    }
    this.#parts.log.info('brick.deleted', { name })
  }

  /** Removes what an import left behind that was cut short. */
  removeLeftovers(): Promise<void> {
    const { serialiser, dataDir } = this.#parts
    return serialiser.run('bricks', () => this.#removeFiles(dataDir.bricks, file => file.endsWith('.partial')))
  }

  async #removeFiles(folder: string, matches: (file: string) => boolean): Promise<void> {
    for (const file of await readdir(folder)) if (matches(file)) await rm(join(folder, file), { force: true })
  }
}

async function readManifest(path: string): Promise<string> {
  if ((await sizeOf('manifest', path)) > 4096) throw new MortarError('brick-signature', `${path} is longer than 4 KiB`)
  return readFile(path, 'utf8')
}

/** Bytes of a regular file: devices and pipes have no end. Fails with not-found. */
async function sizeOf(what: 'image' | 'manifest', path: string): Promise<number> {
  const facts = await stat(path).catch(() => undefined)
  if (!facts?.isFile()) throw new MortarError('not-found', `the ${what} ${path}, a file on the broker's host`)
  return facts.size
}

/**
 * Copies the first `sizeBytes` of a file; returns the SHA-256 of what was written, hex. Through one buffer: a new one for
 * each piece leaves the process up to 40 MiB larger for good.
 */
async function copyHashing(source: string, target: string, sizeBytes: number): Promise<string> {
  const hash = createHash('sha256')
  const buffer = Buffer.allocUnsafeSlow(COPY_BYTES)
  await using from = await open(source)
  await using to = await open(target, 'w', 0o600)
  for (let left = sizeBytes; left > 0; ) {
    const { bytesRead } = await from.read(buffer, 0, Math.min(left, buffer.length))
    if (bytesRead === 0) break
    const piece = buffer.subarray(0, bytesRead)
    hash.update(piece)
    await to.writeFile(piece)
    left -= bytesRead
  }
  await to.datasync()
  return hash.digest('hex')
}
