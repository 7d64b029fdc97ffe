/** What a VM wrote to its serial console: the tail of it, and how far its boot came. */
import { open } from 'node:fs/promises'

const TAIL_BYTES = 64 * 1024

/** The last `bytes` of the log, control characters but line breaks and tabs removed: the guest wrote it, and guests lie. */
export async function readTail(path: string, bytes = TAIL_BYTES): Promise<string> {
  const file = await open(path, 'r').catch(() => undefined)
  if (!file) return ''
  try {
    const { size } = await file.stat()
    const buffer = Buffer.alloc(Math.min(size, bytes))
    await file.read(buffer, 0, buffer.length, size - buffer.length)
    return (
      buffer
        .toString('utf8')
        // biome-ignore lint/suspicious/noControlCharactersInRegex: terminal sequences are what is removed
        .replace(/\x1b(\[[0-9;?]*[ -/]*[@-~]|[@-Z\\-_])/g, '')
        .replace(/\r\n?/g, '\n')
        .replace(/[^\P{Cc}\n\t]/gu, '')
    )
  } finally {
    await file.close()
  }
}

/** Stages of a boot, latest first, by what the console shows of them. */
const STAGES = [
  { stage: 'agent started', pattern: /mortar-agent|Mortar agent/ },
  { stage: 'system starting', pattern: /systemd\[1\]|Welcome to / },
  { stage: 'kernel started', pattern: /Linux version|\[ {3,}\d+\.\d+\]/ },
  { stage: 'firmware or boot loader', pattern: /\S/ },
] as const

/** How far the boot came, for people. */
export function bootStage(console: string): string {
  return STAGES.find(({ pattern }) => pattern.test(console))?.stage ?? 'nothing on the console'
}
