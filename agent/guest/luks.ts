/**
 * LUKS2 by cryptsetup. The header on the disk is never trusted: the host can change it. It is copied into the guest's
 * memory, compared there with the digest that the owner keeps, and the volume is opened with that copy.
 */
import { createHash } from 'node:crypto'
import { constants } from 'node:fs'
import { type FileHandle, open, writeFile } from 'node:fs/promises'
import { type ErrorCode, MortarError } from '../../protocol/core/errors.ts'
import { runTool } from './tool.ts'

/** two copies of 16 KiB of metadata and 512 KiB of keyslots: what luksFormat is told below */
export const HEADER_BYTES = 2 * 16_384 + 524_288
const KEY_BYTES = 64
/** EPERM of cryptsetup(8): no key available with this passphrase */
const WRONG_KEY = 2

const FORMAT = [
  '--type=luks2',
  '--batch-mode',
  '--key-file=-',
  `--keyfile-size=${KEY_BYTES}`,
  '--cipher=aes-xts-plain64',
  '--key-size=512',
  // 64 random bytes need no slow derivation
  '--pbkdf=pbkdf2',
  '--pbkdf-force-iterations=1000',
  '--luks2-metadata-size=16k',
  '--luks2-keyslots-size=512k',
  // sectors from the start of the device to the data: 1 MiB
  '--offset=2048',
] as const

const OPEN = ['--type=luks2', '--batch-mode', '--key-file=-', `--keyfile-size=${KEY_BYTES}`] as const

/**
 * Formats a volume: makes a header with one keyslot as a file at `headerPath` in the guest's memory, and copies it to the
 * device. What the host then shows of the device is never asked. `key`: 64 bytes, the caller's to wipe. Resolves with the
 * header. Fails with drive-failed, or drive-busy while something uses the device.
 */
export async function luksFormat(
  path: string,
  options: { id: string; label: string; headerPath: string; key: Uint8Array },
): Promise<Buffer> {
  const { id, label, headerPath, key } = options
  await writeFile(headerPath, Buffer.alloc(HEADER_BYTES), { mode: 0o600 })
  await cryptsetup(['luksFormat', ...FORMAT, `--header=${headerPath}`, `--uuid=${id}`, `--label=${label}`, path], key)
  const header = await readHeader(headerPath)
  const device = await openAlone(path)
  try {
    await device.write(header, 0, header.length, 0)
    await device.sync()
  } finally {
    await device.close()
  }
  return header
}

/** For writing, while nothing has it mounted or mapped. Fails with drive-busy. */
async function openAlone(path: string): Promise<FileHandle> {
  try {
    return await open(path, constants.O_RDWR | constants.O_EXCL)
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'EBUSY') throw new MortarError('drive-busy', path, { cause })
    throw new MortarError('drive-failed', path, { cause })
  }
}

/** Opens a volume as /dev/mapper/`name` with a header that was checked. Fails with drive-key-wrong or drive-failed. */
export async function luksOpen(
  path: string,
  options: { name: string; headerPath: string; readOnly: boolean; key: Uint8Array },
): Promise<void> {
  const { name, headerPath, readOnly, key } = options
  const access = readOnly ? ['--readonly'] : []
  await cryptsetup(['open', ...OPEN, '--disable-external-tokens', ...access, `--header=${headerPath}`, path, name], key)
}

/** Checks a key against a header without opening anything. Fails with drive-key-wrong or drive-failed. */
export async function luksTest(path: string, headerPath: string, key: Uint8Array): Promise<void> {
  await cryptsetup(['open', '--test-passphrase', ...OPEN, `--header=${headerPath}`, path], key)
}

/** Closes a volume; the key leaves the kernel. Fails with drive-busy. */
export async function luksClose(name: string): Promise<void> {
  await cryptsetup(['close', name], undefined, 'drive-busy')
}

async function cryptsetup(args: string[], key?: Uint8Array, otherwise: ErrorCode = 'drive-failed'): Promise<void> {
  if (key && key.length !== KEY_BYTES) throw new MortarError('bad-request', `a drive key has ${KEY_BYTES} bytes`)
  const { code, stderr } = await runTool('cryptsetup', args, key)
  if (code === 0) return
  if (key && code === WRONG_KEY && args[0] === 'open') throw new MortarError('drive-key-wrong')
  throw new MortarError(otherwise, `cryptsetup ${args[0]} gave ${code}: ${stderr.trim()}`)
}

/** The header area as it is on the device now. Fails with drive-failed. */
export async function readHeader(path: string): Promise<Buffer> {
  return readArea(path, 0, HEADER_BYTES)
}

export function headerDigest(header: Uint8Array): Uint8Array {
  return new Uint8Array(createHash('sha256').update(header).digest())
}

/** True when nothing was ever written to the first and last MiB. */
export async function isBlank(path: string, sizeBytes: number): Promise<boolean> {
  const length = Math.min(2 ** 20, sizeBytes)
  return (await isZero(path, 0, length)) && (await isZero(path, sizeBytes - length, length))
}

const ZEROS = Buffer.alloc(65_536)

/** Piece by piece: several drives may be looked at in a small guest. */
async function isZero(path: string, offset: number, length: number): Promise<boolean> {
  for (let done = 0; done < length; done += ZEROS.length) {
    const area = await readArea(path, offset + done, Math.min(ZEROS.length, length - done))
    if (!area.equals(ZEROS.subarray(0, area.length))) return false
  }
  return true
}

/** what a LUKS2 header begins with */
const MAGIC = Buffer.from('LUKS\xba\xbe\x00\x02', 'latin1')

export function isLuks(header: Uint8Array): boolean {
  return MAGIC.equals(header.subarray(0, MAGIC.length))
}

/** The same of a device, of which no more is read. Fails with drive-failed. */
export async function startsAsLuks(path: string): Promise<boolean> {
  return isLuks(await readArea(path, 0, MAGIC.length))
}

async function readArea(path: string, offset: number, length: number): Promise<Buffer> {
  const area = Buffer.alloc(length)
  const file = await open(path, 'r')
  try {
    for (let read = 0; read < length; ) {
      const { bytesRead } = await file.read(area, read, length - read, offset + read)
      if (bytesRead === 0) throw new MortarError('drive-failed', `${path} is too small`)
      read += bytesRead
    }
    return area
  } finally {
    await file.close()
  }
}
