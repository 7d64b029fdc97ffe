/** A brick of a few hundred KiB with nothing inside: enough to be imported and listed. */
import { execFile } from 'node:child_process'
import { randomBytes } from 'node:crypto'
import { mkdtemp, stat, writeFile } from 'node:fs/promises'
import { join } from 'node:path'
import { promisify } from 'node:util'
import { digestFile } from '../../images/steps.ts'
import { signManifest } from '../../protocol/control/manifest.ts'

const VIRTUAL_BYTES = 64 * 2 ** 20

export interface TinyBrick {
  readonly imagePath: string
  /** the builder's Ed25519 key, base64url, for the broker's configuration */
  readonly builder: string
  readonly folder: string
}

/** Makes image and manifest in a new folder, which the caller removes. */
export async function makeTinyBrick(name: string): Promise<TinyBrick> {
  const folder = await mkdtemp('/var/tmp/mortar-brick-')
  const imagePath = join(folder, 'brick.qcow2')
  await promisify(execFile)('qemu-img', ['create', '-q', '-f', 'qcow2', imagePath, String(VIRTUAL_BYTES)])
  const statement = {
    format: 1 as const,
    name,
    version: '12.0',
    sizeBytes: (await stat(imagePath)).size,
    virtualSizeBytes: VIRTUAL_BYTES,
    sha256: await digestFile(imagePath),
    agentVersion: '0.1.0',
    createdAt: new Date().toISOString(),
  }
  const manifest = signManifest(statement, randomBytes(32))
  await writeFile(join(folder, 'brick.json'), JSON.stringify(manifest))
  return { imagePath, builder: manifest.builder, folder }
}
