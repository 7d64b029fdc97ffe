/** Rows of SUBCOMMANDS that run something in a VM: exec and shell. */
import type { Option, Subcommand } from './subcommand.ts'

export const user: Option = { flags: '--user <user>', says: 'user in the VM (default: your own account there)' }

export const RUN: readonly Subcommand[] = [
  {
    name: 'exec',
    operands: '<vm> [argv...]',
    says: 'run a program in a VM, without a shell; its exit code becomes this one (125 to 127: it did not run). With --json it prints at the end {code, signal, encoding, stdout, stderr}, up to 4 MiB of output; encoding is base64 when it is not UTF-8. When the connection breaks, the program goes on and mortar connects again, for up to an hour. What it starts in the background goes on when it ends, until a grant is revoked. With --detach nobody waits for it: --attach reads what it wrote, and how it ended, later',
    optionHint: 'write -- before a program that has options: mortar exec VM -- ls -la',
    options: [
      user,
      { flags: '--cwd <folder>', says: 'absolute folder to run in (default: home)' },
      { flags: '--env <name=value>', says: 'add to its environment; may be repeated', repeated: true },
      { flags: '-i, --interactive', says: 'pass standard input on even when it is a terminal' },
      { flags: '--detach', says: 'print an id as soon as it runs; what it writes is kept in the VM, up to 4 MiB' },
      {
        flags: '--attach <id>',
        says: 'read a detached program from the start, and on until it ends; Ctrl-C leaves it',
      },
      { flags: '--list', says: 'list your programs in the VM' },
      { flags: '--end <id>', says: 'end a detached program and forget what it wrote' },
    ],
    examples: [
      'mortar exec first -- uname -a',
      'mortar exec first --json -- ls -la',
      'tar c . | mortar exec first --cwd /tmp -- tar x',
      'mortar exec first --detach -- make all',
      'mortar exec first --attach 6f1c0f6b2f6a4b7c8d9e0a1b2c3d4e5f',
    ],
    load: async () => (await import('./exec.ts')).execute,
  },
  {
    name: 'shell',
    operands: '<vm>',
    says: 'open a login shell in a VM; the end of the input ends it. When the connection breaks, the shell goes on and mortar connects again, for up to an hour; Ctrl-C stops that, and as nothing can be told to the VM meanwhile, the shell there ends after that hour',
    options: [user],
    examples: ['mortar shell first', 'mortar shell first --user root'],
    load: async () => (await import('./shell.ts')).shell,
  },
]
