/** The subcommands of `mortar grant`: who else may use a VM, and how far. */
import { offeredTo } from '../../protocol/control/roles.ts'
import type { Subcommand } from './subcommand.ts'

const managersOnly = offeredTo('manager').filter(permission => !offeredTo('user').includes(permission))

export const GRANT: readonly Subcommand[] = [
  {
    name: 'grant create',
    operands: '<vm> <identity>',
    says: 'let another user into a VM of yours. An older grant holds in the VM until this one is first used there: revoke first to end it at once',
    options: [
      { flags: '--role <role>', says: 'user, or manager: may act as any user in the VM', fallback: 'user' },
      {
        flags: '--allow <words>',
        says: `some of ${offeredTo('user').join(',')}, and of a manager ${managersOnly.join(',')} (default: all of the role)`,
      },
      {
        flags: '--drive <drive>',
        says: 'a drive that they share: they join its group, and while it is open read, change and delete what lies on it, even with --allow exec alone; may be repeated',
        repeated: true,
      },
      { flags: '--all-drives', says: 'every drive, in the same way' },
      { flags: '--expires <time>', says: 'such as 12h or 7d', fallback: '7d' },
    ],
    examples: [
      'mortar grant create lab mortar1… --allow exec,terminal',
      'mortar grant create lab mortar1… --expires 8h',
    ],
    load: async () => (await import('./grant.ts')).create,
  },
  {
    name: 'grant list',
    operands: '<vm>',
    says: 'list who else may use a VM: what the broker shows beside what the VM itself has taken, also what the broker hides (JSON: standing is unused, taken, newer, refused or hidden, and null when the VM could not be asked)',
    options: [],
    examples: ['mortar grant list lab'],
    load: async () => (await import('./grant-list.ts')).list,
  },
  {
    name: 'grant revoke',
    operands: '<vm> <identity>',
    says: 'take back all that was ever signed to a user at a VM, on whichever device; the sessions end. Done when the VM itself says so; otherwise it ends with 7 and says what is not known',
    options: [],
    examples: ['mortar grant revoke lab mortar1…'],
    load: async () => (await import('./grant.ts')).revoke,
  },
]
