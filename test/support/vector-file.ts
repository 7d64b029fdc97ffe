/** Files of vectors that the second implementation printed: read with their bytes as bytes, and printed anew. */
import { execFileSync } from 'node:child_process'
import { readFileSync } from 'node:fs'
import { decodeHex } from '../../protocol/core/bytes.ts'

const pathOf = (name: string) => new URL(`../vectors/${name}`, import.meta.url).pathname

/** What `test/vectors/NAME.json` holds; {"hex": …} is bytes. */
export function readVectors<T>(name: string): T {
  return JSON.parse(readFileSync(pathOf(`${name}.json`), 'utf8'), (_, value) =>
    typeof value?.hex === 'string' ? decodeHex(value.hex) : value,
  )
}

/** Whether the script beside the file prints it, byte for byte. */
export function isPrinted(name: string, script: string): boolean {
  const options = { encoding: 'utf8', maxBuffer: 2 ** 24 } as const
  return execFileSync(process.execPath, [pathOf(script)], options) === readFileSync(pathOf(`${name}.json`), 'utf8')
}
