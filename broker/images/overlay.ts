/**
 * Overlays: thin qcow2 files over a brick. One template per brick is made by qemu-img, then copied per VM, which costs the
 * copy of 200 KiB whatever the brick's size. Also the check of images that come from outside.
 */
import { execFile } from 'node:child_process'
import { constants, existsSync } from 'node:fs'
import { copyFile, mkdir, open, rename, rm, stat } from 'node:fs/promises'
import { basename, join } from 'node:path'
import { promisify } from 'node:util'
import { MortarError } from '../../protocol/core/errors.ts'

const execute = promisify(execFile)

/** Runs qemu-img with a fixed argument list. Fails with qemu-missing, no-space or brick-corrupt. */
async function qemuImg(args: readonly string[]): Promise<string> {
  try {
    return (await execute('qemu-img', args, { env: { PATH: '/usr/bin:/bin', LC_ALL: 'C' }, timeout: 600_000 })).stdout
  } catch (cause) {
    const { code, stderr = '' } = cause as { code?: string | number; stderr?: string }
    if (code === 'ENOENT') throw new MortarError('qemu-missing', 'qemu-img', { cause })
    if (/No space left/.test(stderr)) throw new MortarError('no-space', stderr.trim(), { cause })
    throw new MortarError('brick-corrupt', stderr.trim().split('\n').at(-1) ?? '', { cause })
  }
}

/** Fails with qemu-missing unless qemu-img can be run. */
export async function requireQemuImg(): Promise<void> {
  await qemuImg(['--version'])
}

export interface ImageFacts {
  readonly virtualSizeBytes: number
}

interface QemuImgInfo {
  readonly format: string
  readonly 'virtual-size': number
  readonly 'backing-filename'?: string
  readonly encrypted?: boolean
  readonly 'format-specific'?: { data?: { 'data-file'?: string; corrupt?: boolean } }
}

/**
 * Facts of an image to be a brick. It must stand alone: a backing or data file named in a hostile image would let a VM
 * read files of the host. Fails with brick-corrupt or qemu-missing.
 */
export async function inspectImage(path: string): Promise<ImageFacts> {
  // the format is named, never probed: a raw file whose content a guest chose could pose as another
  const info = JSON.parse(await qemuImg(['info', '-f', 'qcow2', '--output=json', path])) as QemuImgInfo
  const foreign = info['backing-filename'] ?? info['format-specific']?.data?.['data-file']
  if (foreign !== undefined) throw new MortarError('brick-corrupt', `it refers to another file: ${foreign}`)
  if (info.encrypted || info['format-specific']?.data?.corrupt)
    throw new MortarError('brick-corrupt', 'encrypted or marked corrupt')
  await qemuImg(['check', '-q', '-f', 'qcow2', path])
  return { virtualSizeBytes: info['virtual-size'] }
}

/** Makes `overlayPath` over the brick. `templateDir` keeps the brick's template. Fails with no-space or qemu-missing. */
export async function createOverlay(brickPath: string, templateDir: string, overlayPath: string): Promise<void> {
  const { size, mtimeMs } = await stat(brickPath)
  const template = join(templateDir, `${basename(brickPath, '.qcow2')}-${size}-${Math.floor(mtimeMs)}.overlay`)
  if (!existsSync(template)) await makeTemplate(brickPath, templateDir, template)
  try {
    await copyFile(template, overlayPath, constants.COPYFILE_FICLONE | constants.COPYFILE_EXCL)
    const file = await open(overlayPath, 'r+')
    await file.chmod(0o600)
    await file.datasync()
    await file.close()
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') await rm(overlayPath, { force: true })
    throw spaceError(cause, overlayPath)
  }
}

async function makeTemplate(brickPath: string, templateDir: string, template: string): Promise<void> {
  await mkdir(templateDir, { recursive: true })
  const partial = `${template}.${process.pid}`
  try {
    await qemuImg(['create', '-q', '-f', 'qcow2', '-b', brickPath, '-F', 'qcow2', partial])
    await rename(partial, template)
  } finally {
    await rm(partial, { force: true })
  }
}

/** `no-space` for a full disk; the cause itself otherwise. */
export function spaceError(cause: unknown, path: string): unknown {
  return (cause as NodeJS.ErrnoException).code === 'ENOSPC' ? new MortarError('no-space', path, { cause }) : cause
}
