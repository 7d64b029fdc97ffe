/** The generation: how often this overlay has booted, from 1. The kernel's boot id tells a boot from a restart of the agent. */
import { readFileSync } from 'node:fs'
import { join } from 'node:path'
import { MortarError } from '../protocol/core/errors.ts'
import { object, uint, uuid } from '../protocol/core/schema.ts'
import { replaceFile } from './replace-file.ts'

const schema = object({ boot: uuid, generation: uint(2 ** 31).min(1) })
export type Generation = { readonly boot: string; readonly generation: number }

/** The kernel's id of this boot. */
export function readBootId(): string {
  return readFileSync('/proc/sys/kernel/random/boot_id', 'utf8').trim()
}

/** Counts this boot once. The file is replaced whole, so a crash leaves the old count or the new one. Fails with internal when it is damaged. */
export function countBoot(stateDirectory: string, boot: string): Generation {
  const path = join(stateDirectory, 'generation.json')
  const last = readGeneration(path)
  if (last?.boot === boot) return last
  const next = { boot, generation: (last?.generation ?? 0) + 1 }
  replaceFile(path, JSON.stringify(next))
  return next
}

function readGeneration(path: string): Generation | null {
  let json: string
  try {
    json = readFileSync(path, 'utf8')
  } catch (thrown) {
    if ((thrown as NodeJS.ErrnoException).code === 'ENOENT') return null
    throw thrown
  }
  try {
    return schema.parse(JSON.parse(json))
  } catch (cause) {
    throw new MortarError('internal', `${path} is damaged`, { cause })
  }
}
