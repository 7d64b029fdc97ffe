/** Looking for bytes where they must not be: in a process's memory and in files. */
import { createReadStream } from 'node:fs'
import { open, readdir, readFile } from 'node:fs/promises'
import { join } from 'node:path'

const CHUNK_BYTES = 4 * 2 ** 20

/** The needle as bytes, hex and base64, each without its ends, which depend on what stands around them. */
export function forms(needle: Uint8Array): Buffer[] {
  const bytes = Buffer.from(needle)
  const found = [bytes.subarray(0, 16), bytes.subarray(-16), Buffer.from(bytes.toString('hex').slice(0, 32))]
  for (const start of [0, 1, 2]) {
    // a third of a text in base64 for each way that the needle may lie in groups of three
    const inner = bytes.subarray(start, start + 24).toString('base64')
    found.push(Buffer.from(inner), Buffer.from(inner.replaceAll('+', '-').replaceAll('/', '_')))
  }
  return found
}

const holds = (haystack: Buffer, needles: readonly Buffer[]) => needles.some(needle => haystack.includes(needle))

/** Where in a process's memory any of the needles is, as ranges of /proc/PID/maps. */
export async function searchMemory(pid: number, needles: readonly Buffer[]): Promise<string[]> {
  const hits: string[] = []
  const maps = (await readFile(`/proc/${pid}/maps`, 'utf8')).trim().split('\n')
  const memory = await open(`/proc/${pid}/mem`, 'r')
  try {
    for (const line of maps) {
      const [range = '', rights = '', , , , name = ''] = line.split(/ +/)
      if (!rights.startsWith('rw') || name === '[vvar]' || name === '[vsyscall]') continue
      const [from = 0, to = 0] = range.split('-').map(hex => Number.parseInt(hex, 16))
      if (await holdsRange(memory, from, to, needles)) hits.push(line)
    }
  } finally {
    await memory.close()
  }
  return hits
}

async function holdsRange(
  memory: Awaited<ReturnType<typeof open>>,
  from: number,
  to: number,
  needles: readonly Buffer[],
): Promise<boolean> {
  const overlap = 256
  for (let at = from; at < to; at += CHUNK_BYTES - overlap) {
    const chunk = Buffer.alloc(Math.min(CHUNK_BYTES, to - at))
    // a range may go while we look: what cannot be read is not there
    const read = await memory.read(chunk, 0, chunk.length, at).catch(() => undefined)
    if (read && holds(chunk.subarray(0, read.bytesRead), needles)) return true
  }
  return false
}

/** Files below a folder that hold any of the needles. */
export async function searchFiles(folder: string, needles: readonly Buffer[]): Promise<string[]> {
  const hits: string[] = []
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile()) continue
    const path = join(entry.parentPath, entry.name)
    if (await holdsFile(path, needles)) hits.push(path)
  }
  return hits
}

/** Whether a file holds any of the needles. */
export async function holdsFile(path: string, needles: readonly Buffer[]): Promise<boolean> {
  let tail: Buffer = Buffer.alloc(0)
  for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES })) {
    const whole = Buffer.concat([tail, chunk as Buffer])
    if (holds(whole, needles)) return true
    tail = whole.subarray(-256)
  }
  return false
}
