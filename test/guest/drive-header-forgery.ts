/** Forged LUKS2 headers that cryptsetup takes for whole: both copies of the metadata are changed, and their checksums made anew. */
import { createHash, randomBytes } from 'node:crypto'
import { open } from 'node:fs/promises'

const COPY_BYTES = 16_384
/** the binary part of a copy; JSON behind it */
const BINARY_BYTES = 4_096
const CHECKSUM = { at: 448, bytes: 64 } as const
const UUID = { at: 168, bytes: 40 } as const
/** what the agent's headers take (agent/guest/luks.ts) */
const HEADER_BYTES = 2 * COPY_BYTES + 524_288

// biome-ignore lint/suspicious/noExplicitAny: it is what cryptsetup makes of it
type Metadata = any

/** The whole header area of an image. */
export async function headerOf(image: string): Promise<Buffer> {
  const file = await open(image, 'r')
  try {
    return (await file.read(Buffer.alloc(HEADER_BYTES), 0, HEADER_BYTES, 0)).buffer
  } finally {
    await file.close()
  }
}

export async function writeHeader(image: string, header: Uint8Array): Promise<void> {
  const file = await open(image, 'r+')
  await file.write(header, 0, header.length, 0)
  await file.close()
}

/** A header with other metadata, or another UUID, in both copies. */
export function forged(header: Buffer, change: (metadata: Metadata) => void, uuid?: string): Buffer {
  const made = Buffer.from(header)
  for (const start of [0, COPY_BYTES]) {
    const copy = made.subarray(start, start + COPY_BYTES)
    const text = copy.subarray(BINARY_BYTES)
    const metadata = JSON.parse(text.subarray(0, text.indexOf(0)).toString())
    change(metadata)
    text.fill(0).write(JSON.stringify(metadata))
    if (uuid !== undefined) copy.fill(0, UUID.at, UUID.at + UUID.bytes).write(uuid, UUID.at)
    copy.fill(0, CHECKSUM.at, CHECKSUM.at + CHECKSUM.bytes)
    createHash('sha256').update(copy).digest().copy(copy, CHECKSUM.at)
  }
  return made
}

export const uuidOf = (header: Buffer): string =>
  header.toString('latin1', UUID.at, UUID.at + UUID.bytes).replace(/\0.*/s, '')

/** What is written from then on is not encrypted. */
export function nullCipher(metadata: Metadata): void {
  metadata.segments['0'].encryption = 'cipher_null-ecb'
}

/** Somebody else's way in: another keyslot, which the digest of the volume key is said to fit. */
export function extraKeyslot(metadata: Metadata): void {
  const [first] = Object.values<Metadata>(metadata.keyslots)
  const area = { ...first.area, offset: `${Number(first.area.offset) + Number(first.area.size)}` }
  const salt = randomBytes(32).toString('base64')
  metadata.keyslots['1'] = { ...first, area, kdf: { ...first.kdf, salt } }
  metadata.digests['0'].keyslots.push('1')
}

/** Has the guest decrypt the drive in place as soon as it is opened. */
export function reencryption(metadata: Metadata): void {
  const { '0': crypt } = metadata.segments
  const { offset, size } = metadata.keyslots['0'].area
  metadata.keyslots['1'] = {
    ...{ type: 'reencrypt', mode: 'decrypt', direction: 'forward', key_size: 1, priority: 0 },
    area: {
      type: 'checksum',
      hash: 'sha256',
      sector_size: 4_096,
      offset: `${Number(offset) + Number(size)}`,
      size: '8192',
    },
  }
  metadata.segments['1'] = { ...crypt, flags: ['backup-previous'] }
  metadata.segments['2'] = { type: 'linear', offset: crypt.offset, size: 'dynamic', flags: ['backup-final'] }
  const { digests } = metadata
  digests['0'].segments.push('1')
  digests['1'] = { ...digests['0'], keyslots: ['1'], segments: [] }
  metadata.config.requirements = { mandatory: ['online-reencrypt-v2'] }
}
