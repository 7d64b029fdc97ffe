/** Replaces a small file whole: a crash leaves the old content or the new one, and what was written stays written. */
import { closeSync, fsyncSync, openSync, renameSync, writeSync } from 'node:fs'
import { dirname } from 'node:path'

/** Returns once the content is on disk; root's only. */
export function replaceFile(path: string, content: string | Uint8Array): void {
  withFile(`${path}.new`, 'w', file => writeSync(file, typeof content === 'string' ? Buffer.from(content) : content))
  renameSync(`${path}.new`, path)
  // the name, too, has to reach the disk
  withFile(dirname(path), 'r', () => {})
}

function withFile(path: string, flags: 'w' | 'r', use: (file: number) => void): void {
  const file = openSync(path, flags, 0o600)
  try {
    use(file)
    fsyncSync(file)
  } finally {
    closeSync(file)
  }
}
