/** The folders and keys below data_dir. Folders can be entered by QEMU's user but not listed; keys are root's alone. */
import { randomBytes } from 'node:crypto'
import { chmodSync, existsSync, linkSync, mkdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { dirname, join } from 'node:path'
import { MortarError } from '../protocol/core/errors.ts'
import { copySecret, wipe } from '../protocol/core/secret.ts'
import { spaceError } from './images/overlay.ts'

export interface DataDir {
  readonly root: string
  readonly database: string
  readonly bricks: string
  readonly templates: string
  readonly drives: string
  readonly sshHostKey: string
  vm(id: string): string
}

/** Finds or makes the folders. Fails with data-unusable. */
export function openDataDir(root: string): DataDir {
  const folder = (name: string) => join(root, name)
  for (const path of [root, folder('bricks'), folder('templates'), folder('drives'), folder('vms')]) makeFolder(path)
  return {
    root,
    database: folder('broker.sqlite'),
    bricks: folder('bricks'),
    templates: folder('templates'),
    drives: folder('drives'),
    sshHostKey: folder('ssh_host_ed25519_key'),
    vm: id => join(root, 'vms', id),
  }
}

/** One folder after the other: where none can be made, as in /proc, Node's own recursion never ends. */
function makeFolder(path: string): void {
  try {
    if (existsSync(path)) {
      if (!statSync(path).isDirectory()) throw new Error('is not a directory')
      return
    }
    if (dirname(path) !== path) makeFolder(dirname(path))
    mkdirSync(path)
    // whatever the umask
    chmodSync(path, 0o711)
  } catch (cause) {
    if (cause instanceof MortarError) throw cause
    const { code, message } = cause as NodeJS.ErrnoException
    const why = code === undefined ? message : `cannot be made (${code})`
    throw new MortarError('data-unusable', `${path} ${why}`, { cause })
  }
}

/** The broker's own Ed25519 seed, 32 bytes, made at first start. The caller wipes it. Fails with data-unusable or no-space. */
export function brokerSeed(dataDir: DataDir): Uint8Array {
  const path = join(dataDir.root, 'broker.key')
  if (!existsSync(path)) {
    // whole or not at all: a full disk must not leave half a key behind
    const partial = `${path}.${process.pid}`
    try {
      writeFileSync(partial, randomBytes(32), { mode: 0o600, flush: true })
      linkSync(partial, path)
    } catch (cause) {
      if ((cause as NodeJS.ErrnoException).code !== 'EEXIST') throw spaceError(cause, path)
    } finally {
      rmSync(partial, { force: true })
    }
  }
  const read = readFileSync(path)
  try {
    if (read.length !== 32) throw new MortarError('data-unusable', `${path} does not hold 32 bytes`)
    return copySecret(read)
  } finally {
    wipe(read)
  }
}
