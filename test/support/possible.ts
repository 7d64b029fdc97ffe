/** Tests that need something of the machine: where it is missing they are skipped, and say so by their name. */
import { spawnSync } from 'node:child_process'
import { existsSync } from 'node:fs'
import { describe } from 'vitest'

/** A describe() whose tests are skipped, with the reason in its name, when there is one. */
export function describeUnless(reason: string | undefined, name: string, tests: () => void): void {
  if (reason) describe.skip(`${name} (cannot run here: ${reason})`, tests)
  else describe(name, tests)
}

/** Why not, when a program or file is missing. `needed`: path, or name of a program, to what brings it. */
export function missingOf(needed: Readonly<Record<string, string>>): string | undefined {
  const there = (item: string) => (item.startsWith('/') ? existsSync(item) : spawnSync('which', [item]).status === 0)
  const missing = Object.entries(needed).filter(([item]) => !there(item))
  return missing.length > 0 ? `missing: ${missing.map(([, from]) => from).join(', ')}` : undefined
}

/** Why not, when it takes root. */
export const needsRoot = (why: string) => (process.getuid?.() === 0 ? undefined : `needs root ${why}`)
