/** doctor: checks that the system has what the agent needs, and with --brick that the image carries no identity. */
import { accessSync, constants, existsSync, readFileSync, statSync } from 'node:fs'
import { join } from 'node:path'
import { FEATURES } from '../protocol/control/roles.ts'
import { readConfig } from './config.ts'
import { CONFIG_PATH } from './config-path.ts'
import { hasSwapOnDisk } from './guest/swap.ts'
import { DEFAULT_PATH } from './guest/tool.ts'
import { nativePty } from './runner/pty.ts'

interface Check {
  readonly name: string
  /** what to do when it fails */
  readonly todo: string
  /** throws, or returns false, when it fails */
  readonly passes: () => unknown
}

/** program → the Debian package that has it */
const TOOLS = {
  'systemd-run': 'systemd',
  systemctl: 'systemd',
  keyctl: 'keyutils',
  cryptsetup: 'cryptsetup-bin',
  blkid: 'util-linux',
  'mkfs.ext4': 'e2fsprogs',
  chattr: 'e2fsprogs',
  lsattr: 'e2fsprogs',
  setfacl: 'acl',
  fallocate: 'util-linux',
  unshare: 'util-linux',
  mount: 'mount',
  umount: 'mount',
  mkfifo: 'coreutils',
  prlimit: 'util-linux',
  'systemd-notify': 'systemd',
  sshd: 'openssh-server',
  'ssh-keygen': 'openssh-client',
} as const

const SYSTEM: readonly Check[] = [
  ...Object.entries(TOOLS).map(([tool, from]) => ({
    name: `program ${tool}`,
    todo: `apt install ${from}`,
    passes: () => DEFAULT_PATH.split(':').some(folder => isExecutable(join(folder, tool))),
  })),
  { name: 'configuration', todo: `mend ${CONFIG_PATH}`, passes: () => readConfig() },
  {
    name: 'name lookup',
    todo: 'let /etc/nsswitch.conf name extrausers for passwd and group',
    passes: () => ['passwd', 'group'].every(table => looksUpExtraUsers(table)),
  },
  {
    name: 'homes',
    todo: `make the folder that ${CONFIG_PATH} names as homes, for root to write alone`,
    passes: () => (statSync(readConfig().homes).mode & 0o22) === 0 && statSync(readConfig().homes).uid === 0,
  },
  {
    name: 'features',
    todo: `list in ${CONFIG_PATH} what the owner may use: features = [${FEATURES.map(item => `"${item}"`).join(', ')}]`,
    passes: () => readConfig().features.length > 0,
  },
  { name: 'terminal module', todo: 'build the agent again', passes: () => nativePty() },
  {
    name: 'no swap on a disk',
    todo: 'remove swap, or use zram: keys could reach it',
    passes: () => !existsSync('/proc/swaps') || !hasSwapOnDisk(),
  },
]

const BRICK: readonly Check[] = [
  {
    name: 'unit is enabled',
    todo: 'systemctl enable mortar-agent.service',
    passes: () => existsSync('/etc/systemd/system/sysinit.target.wants/mortar-agent.service'),
  },
  {
    name: 'machine-id is empty',
    todo: 'truncate -s 0 /etc/machine-id',
    passes: () => ['', 'uninitialized'].includes(readFileSync('/etc/machine-id', 'utf8').trim()),
  },
  {
    name: 'no SSH host keys',
    todo: 'rm /etc/ssh/ssh_host_*',
    passes: () => ['rsa', 'ecdsa', 'ed25519'].every(kind => !existsSync(`/etc/ssh/ssh_host_${kind}_key`)),
  },
  {
    name: 'no boot counter of the agent',
    todo: 'rm -r /var/lib/mortar-agent',
    passes: () => !existsSync('/var/lib/mortar-agent/boot'),
  },
]

/** Prints one line per check; the exit code is 0 when all passed. */
export function doctor(brick: boolean): number {
  let failed = 0
  for (const check of brick ? [...SYSTEM, ...BRICK] : SYSTEM) {
    const passed = attempt(check)
    if (!passed) failed++
    process.stdout.write(passed ? `ok      ${check.name}\n` : `FAILED  ${check.name}\n        → ${check.todo}\n`)
  }
  return failed === 0 ? 0 : 1
}

function attempt(check: Check): boolean {
  try {
    return check.passes() !== false
  } catch {
    return false
  }
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK)
    return statSync(path).isFile()
  } catch {
    return false
  }
}

/** A line of nsswitch.conf(5), without comments. */
function looksUpExtraUsers(table: string): boolean {
  const lines = readFileSync('/etc/nsswitch.conf', 'utf8').split('\n')
  return lines.some(line => line.startsWith(`${table}:`) && /\sextrausers(\s|$)/.test(line.replace(/#.*/, '')))
}
