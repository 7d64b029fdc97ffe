/** Whether QEMU, which runs as a user of its own, can enter the folders in which the broker keeps its files. */
import { spawnSync } from 'node:child_process'
import { readFileSync, statSync } from 'node:fs'
import { dirname } from 'node:path'
import { MortarError } from '../../protocol/core/errors.ts'

const QEMU_CONF = '/etc/libvirt/qemu.conf'
/** Debian's */
const DEFAULT_USER = 'libvirt-qemu'
/** the group of nobody */
const NOBODY = '65534'

/** The user that libvirt runs QEMU as: a name, or a number after a plus. */
function qemuUser(): string {
  try {
    return /^\s*user\s*=\s*"([^"]+)"/m.exec(readFileSync(QEMU_CONF, 'utf8'))?.[1] ?? DEFAULT_USER
  } catch {
    return DEFAULT_USER
  }
}

/** Fails with storage-denied, naming the outermost folder that is closed to QEMU's user and the command that opens it. */
export function requireEntry(dataDir: string, user = qemuUser()): void {
  const folders = [dataDir]
  while (dirname(folders[0] as string) !== folders[0]) folders.unshift(dirname(folders[0] as string))
  const there = folders.filter(folder => statSync(folder, { throwIfNoEntry: false })?.isDirectory())
  // whoever enters the innermost has passed the others
  if (!isClosed(there.at(-1) ?? '/', user)) return
  const closed = there.find(folder => isClosed(folder, user))
  if (closed) throw new MortarError('storage-denied', `${user} cannot enter ${closed}; run: chmod o+x ${closed}`)
}

/** Asks the kernel, as that user with its groups. False where this cannot be asked, since we are not root. */
function isClosed(folder: string, user: string): boolean {
  const id = user.replace(/^\+/, '')
  const group = groupOf(id)
  // a user without a name is in no group that could let it in
  const groups = group === undefined ? ['--regid', NOBODY, '--clear-groups'] : ['--regid', group, '--init-groups']
  const command = ['--reuid', id, ...groups, 'test', '-x', folder]
  const { status, stderr } = spawnSync('setpriv', command, { encoding: 'utf8' })
  return status === 1 && stderr === ''
}

function groupOf(user: string): string | undefined {
  const line = readFileSync('/etc/passwd', 'utf8')
    .split('\n')
    .map(text => text.split(':'))
    .find(([name, , uid]) => name === user || uid === user)
  return line?.[3]
}
