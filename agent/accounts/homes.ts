/** The home of an account: made whole or not at all, in a folder where only root makes anything. */
import {
  chmodSync,
  lchownSync,
  lstatSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  writeFileSync,
} from 'node:fs'
import { join } from 'node:path'
import type { Account } from '../../protocol/control/account.ts'
import { MortarError } from '../../protocol/core/errors.ts'

const SKELETON = '/etc/skel'

/** Makes the home unless it is there. Nothing in a home that is there is looked at. Fails with internal. */
export function makeHome(homes: string, account: Account, skeleton = SKELETON): void {
  const path = join(homes, account.name)
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found?.isDirectory() && found.uid === account.id) return
  if (found) throw new MortarError('internal', `${path} is not the home of ${account.name}`)
  const made = mkdtempSync(join(homes, '.new-'))
  try {
    for (const entry of readdirSync(skeleton, { withFileTypes: true })) {
      if (!entry.isFile()) continue
      const file = join(made, entry.name)
      writeFileSync(file, readFileSync(join(skeleton, entry.name)))
      chmodSync(file, 0o644)
      lchownSync(file, account.id, account.id)
    }
    chmodSync(made, 0o700)
    lchownSync(made, account.id, account.id)
    renameSync(made, path)
  } catch (thrown) {
    rmSync(made, { recursive: true, force: true })
    throw thrown
  }
}
