/** Replaces a small file whole: a crash leaves the old content or the new one, and what was written stays written. */
import { closeSync, fchmodSync, fchownSync, fsyncSync, openSync, renameSync, writeFileSync } from 'node:fs'
import { dirname } from 'node:path'

export interface FileAccess {
  readonly mode: number
  /** the group that the mode means; the agent's own when absent */
  readonly gid?: number
}

const PRIVATE: FileAccess = { mode: 0o600 }

/** Returns once the content is on disk; root's only, unless somebody else may read it. */
export function replaceFile(path: string, content: string | Uint8Array, { mode, gid }: FileAccess = PRIVATE): void {
  withFile(`${path}.new`, 'w', file => {
    // all of it, or an error: writeSync() takes what fits
    writeFileSync(file, content)
    if (gid !== undefined) fchownSync(file, 0, gid)
    fchmodSync(file, mode)
  })
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
