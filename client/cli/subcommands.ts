/** SUBCOMMANDS: the list. A new subcommand is a row here and a function in the file of its noun. */
import { GRANT } from './grant-subcommands.ts'
import { RUN } from './run-subcommands.ts'
import { SSH } from './ssh-subcommands.ts'
import type { Option, Subcommand } from './subcommand.ts'

const timeout = (fallback: string): Option => ({ flags: '--timeout <seconds>', says: 'give up after this', fallback })
const force: Option = {
  flags: '--force',
  says: 'even when the VM does not say that its drives are locked: what they have not saved yet is lost',
}

const yes: Option = {
  flags: '--yes',
  says: 'do not ask first; needed where there is no terminal to ask on',
}

const IDENTITY: readonly Subcommand[] = [
  {
    name: 'identity create',
    operands: '',
    says: 'make an identity, the one secret that all your keys come from',
    options: [{ flags: '--no-passphrase', says: 'do not encrypt the file: who reads it is you' }],
    examples: ['mortar identity create', 'mortar --identity ./work.identity identity create'],
    load: async () => (await import('./identity.ts')).create,
  },
  {
    name: 'identity show',
    operands: '',
    says: 'print the public identity, which the operator adds to the broker',
    options: [],
    examples: ['mortar identity show'],
    load: async () => (await import('./identity.ts')).show,
  },
]

const BRICK: readonly Subcommand[] = [
  {
    name: 'brick list',
    operands: '',
    says: 'list the templates that VMs start from',
    options: [],
    examples: ['mortar brick list'],
    load: async () => (await import('./brick.ts')).list,
  },
  {
    name: 'brick import',
    operands: '<image>',
    says: "import an image and its manifest, which lie on the broker's host (administrators)",
    options: [{ flags: '--manifest <file>', says: 'manifest (default: beside the image, ending in .json)' }],
    examples: ['mortar brick import /srv/bricks/brick.qcow2', 'mortar brick import b.qcow2 --manifest b.json'],
    load: async () => (await import('./brick.ts')).importImage,
  },
  {
    name: 'brick delete',
    operands: '<brick>',
    says: 'delete a brick that no VM runs from (administrators)',
    options: [],
    examples: ['mortar brick delete debian-12'],
    load: async () => (await import('./brick.ts')).remove,
  },
]

const VM: readonly Subcommand[] = [
  {
    name: 'vm create',
    operands: '<name>',
    says: 'launch a VM from a brick',
    options: [
      { flags: '--brick <name>', says: 'brick to start from', required: true },
      { flags: '--memory <MiB>', says: 'memory', fallback: '1024' },
      { flags: '--cpus <count>', says: 'virtual CPUs', fallback: '1' },
      { flags: '--wait <state>', says: 'wait until it is ready or enrolled, or do not: none', fallback: 'ready' },
      timeout('300'),
    ],
    examples: [
      'mortar vm create first --brick debian-12',
      'mortar vm create big --brick debian-12 --memory 4096 --cpus 4',
    ],
    load: async () => (await import('./vm.ts')).create,
  },
  {
    name: 'vm list',
    operands: '',
    says: 'list your VMs, and those that others let you into (administrators: everybody’s)',
    options: [],
    examples: ['mortar vm list', 'mortar vm list --json'],
    load: async () => (await import('./vm.ts')).list,
  },
  {
    name: 'vm show',
    operands: '<vm>',
    says: 'show a VM: state, addresses, drives, what happened',
    options: [],
    examples: ['mortar vm show first'],
    load: async () => (await import('./vm.ts')).show,
  },
  {
    name: 'vm wait',
    operands: '<vm>',
    says: 'wait until a VM is ready, which it proves by its key to who may connect to it; or enrolled or stopped, as the broker says',
    options: [{ flags: '--for <state>', says: 'ready, enrolled or stopped', fallback: 'ready' }, timeout('300')],
    examples: ['mortar vm wait first', 'mortar vm wait first --for stopped --timeout 60'],
    load: async () => (await import('./vm.ts')).wait,
  },
  {
    name: 'vm stop',
    operands: '<vm>',
    says: 'lock its drives and shut a VM down, after a question. It is not told to stop unless it says that its drives are locked (then exit code 7, and nothing was stopped); that it stopped is what the broker says. Another’s VM is named by its id',
    options: [timeout('120'), force, yes],
    examples: ['mortar vm stop first', 'mortar vm stop first --yes --json'],
    load: async () => (await import('./vm.ts')).stop,
  },
  {
    name: 'vm delete',
    operands: '<vm>',
    says: 'lock its drives and destroy a VM with its system disk, after a question; drives stay. As with vm stop, nothing is destroyed unless the VM says that its drives are locked, or the broker that it is off; another’s VM is named by its id',
    options: [force, yes],
    examples: ['mortar vm delete first', 'mortar vm delete first --yes --json'],
    load: async () => (await import('./vm.ts')).remove,
  },
  {
    name: 'vm confirm',
    operands: '<vm>',
    says: 'decide which boot is the VM, when its keys do not prove it; without options it explains and asks',
    options: [
      {
        flags: '--boot <words>',
        says: 'the six words of the boot, as the VM’s console has them, or the first two or more',
      },
      {
        flags: '--yes',
        says: 'confirm the one boot that waits, without a question; not when several claim to be the VM',
      },
    ],
    examples: ['mortar vm confirm first', 'mortar vm confirm first --boot "ability able about above absent absorb"'],
    load: async () => (await import('./decide.ts')).decide,
  },
  {
    name: 'vm verify',
    operands: '<vm>',
    says: 'have a VM prove its key, and print six words of the session. The VM writes the same words to its console: read them on the host itself, for a console that the broker shows proves nothing against the broker',
    options: [],
    examples: ['mortar vm verify first'],
    load: async () => (await import('./vm.ts')).verify,
  },
  {
    name: 'vm logs',
    operands: '<vm>',
    says: "print a VM's console",
    options: [],
    examples: ['mortar vm logs first'],
    load: async () => (await import('./vm.ts')).logs,
  },
]

const DRIVE: readonly Subcommand[] = [
  {
    name: 'drive create',
    operands: '<name>',
    says: 'make an empty drive, whose key only your identity yields',
    options: [{ flags: '--size <size>', says: '16M to 16T: bytes, or with K, M, G, T', required: true }],
    examples: ['mortar drive create data --size 64M'],
    load: async () => (await import('./drive.ts')).create,
  },
  {
    name: 'drive list',
    operands: '',
    says: 'list your drives (administrators: everybody’s)',
    options: [],
    examples: ['mortar drive list'],
    load: async () => (await import('./drive.ts')).list,
  },
  {
    name: 'drive attach',
    operands: '<drive> <vm>',
    says: 'plug a drive into a VM; it stays locked',
    options: [],
    examples: ['mortar drive attach data first'],
    load: async () => (await import('./drive.ts')).attach,
  },
  {
    name: 'drive unlock',
    operands: '<drive> [vm]',
    says: 'unlock an attached drive and mount it below /drives; with a VM named, only if it is attached to that one',
    options: [
      { flags: '--format', says: 'format it first' },
      { flags: '--erase', says: 'with --format: destroy what is on it' },
      { flags: '--read-only', says: 'mount it for reading only' },
    ],
    examples: ['mortar drive unlock data --format', 'mortar drive unlock data', 'mortar drive unlock data first'],
    load: async () => (await import('./drive.ts')).unlock,
  },
  {
    name: 'drive lock',
    operands: '<drive> [vm]',
    says: 'unmount and lock a drive; it stays attached. Done when the VM says so; which VM to ask is what the broker says, unless one is named. A grantee with the right drives names the VM, and the drive by its id or as it is mounted',
    options: [],
    examples: ['mortar drive lock data', 'mortar drive lock data first'],
    load: async () => (await import('./drive.ts')).lock,
  },
  {
    name: 'drive detach',
    operands: '<drive> [vm]',
    says: 'lock a drive and unplug it from its VM. Done when the VM says that it is locked and gone (otherwise exit code 7); which VM to ask is what the broker says, unless one is named',
    options: [force],
    examples: ['mortar drive detach data', 'mortar drive detach data first'],
    load: async () => (await import('./drive.ts')).detach,
  },
  {
    name: 'drive delete',
    operands: '<drive>',
    says: 'delete a drive and all that is on it, after a question',
    options: [yes],
    examples: ['mortar drive delete data', 'mortar drive delete data --yes --json'],
    load: async () => (await import('./drive.ts')).remove,
  },
]

const OTHERS: readonly Subcommand[] = [
  {
    name: 'console',
    operands: '',
    says: 'serve the console page from this machine, so that nobody else can change it',
    options: [
      { flags: '--listen <address>', says: 'address and port', fallback: '127.0.0.1:7780' },
      { flags: '--page <folder>', says: 'built page (default: beside this program)' },
    ],
    examples: ['mortar console', 'mortar --broker https://broker.example console --listen 127.0.0.1:8000'],
    load: async () => (await import('./console.ts')).serveConsole,
  },
]

export const SUBCOMMANDS: readonly Subcommand[] = [
  ...IDENTITY,
  ...BRICK,
  ...VM,
  ...RUN,
  ...DRIVE,
  ...GRANT,
  ...SSH,
  ...OTHERS,
]

/** Nouns that group subcommands, for --help. */
export const NOUNS: Readonly<Record<string, string>> = {
  identity: 'your identity',
  brick: 'templates that VMs start from',
  vm: 'virtual machines',
  drive: 'encrypted drives',
  'ssh-key': "keys at the broker's jump host",
  grant: 'rights of others at your VMs',
}
