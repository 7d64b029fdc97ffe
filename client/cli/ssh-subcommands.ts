/** The subcommands of `mortar` for SSH: stock OpenSSH to a VM, and the keys at the broker's jump host. */
import type { Subcommand } from './subcommand.ts'

export const SSH: readonly Subcommand[] = [
  {
    name: 'ssh',
    operands: '<vm> [arguments...]',
    says: 'exchange keys with a VM and run the ssh of this machine; options for ssh follow the VM',
    options: [],
    examples: ['mortar ssh first', 'mortar ssh first -L 8080:localhost:80', 'mortar ssh first uptime'],
    passThrough: true,
    load: async () => (await import('./ssh.ts')).ssh,
  },
  {
    name: 'ssh-config',
    operands: '<vm>',
    says: 'exchange keys with a VM and print its block for ssh_config, for ssh, scp and rsync',
    options: [{ flags: '--jump', says: "go through the broker's jump host instead of this program" }],
    examples: ['mortar ssh-config first > first.config && scp -F first.config notes.txt first:'],
    load: async () => (await import('./ssh.ts')).sshConfig,
  },
  {
    name: 'ssh-proxy',
    operands: '<vm>',
    says: 'connection for ProxyCommand of ssh: standard input and output lead to sshd in the VM',
    options: [{ flags: '--socket <path>', says: 'of the mortar ssh that started ssh' }],
    examples: ['ssh -o ProxyCommand="mortar ssh-proxy first" …'],
    hidden: true,
    load: async () => (await import('./ssh-proxy.ts')).sshProxy,
  },
  {
    name: 'ssh-key list',
    operands: '',
    says: "list the keys that may log in at the broker's jump host as you",
    options: [],
    examples: ['mortar ssh-key list'],
    load: async () => (await import('./ssh-key.ts')).list,
  },
  {
    name: 'ssh-key add',
    operands: '<file>',
    says: "let a key log in at the broker's jump host as you; each VM is told the key by ssh or ssh-config",
    options: [],
    examples: ['mortar ssh-key add ~/.ssh/id_ed25519.pub'],
    load: async () => (await import('./ssh-key.ts')).add,
  },
  {
    name: 'ssh-key remove',
    operands: '<key>',
    says: 'take a key back, by fingerprint or name; connections through the jump host that it had logged in end',
    options: [],
    examples: ['mortar ssh-key remove laptop', 'mortar ssh-key remove SHA256:…'],
    load: async () => (await import('./ssh-key.ts')).remove,
  },
]
