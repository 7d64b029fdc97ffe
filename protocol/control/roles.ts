/** Permissions, and the roles that are sets of them. What is not granted is denied. SPEC §2.7 */

/** every right there is, with the words that are reserved */
export const PERMISSIONS = [
  'info',
  'exec',
  'terminal',
  'drives',
  'ssh',
  'files-up',
  'files-down',
  'tunnel',
  'users',
  'stats',
  'power',
] as const
export type Permission = (typeof PERMISSIONS)[number]

/** words that no command and no route needs yet: they are kept free, and nobody is offered them */
const RESERVED: readonly Permission[] = ['files-up', 'files-down', 'tunnel', 'stats']
/** those that mean something in this version */
export const OFFERED = PERMISSIONS.filter(permission => !RESERVED.includes(permission))
/** those that an agent asks for; `power` is the broker's to ask for */
export const FEATURES = OFFERED.filter(permission => permission !== 'power')

/** The most that each role may do, and what it does unless its grant says less. */
export const ROLES = {
  owner: PERMISSIONS,
  manager: PERMISSIONS.filter(permission => permission !== 'users'),
  user: PERMISSIONS.filter(permission => permission !== 'users' && permission !== 'power'),
} as const satisfies Record<string, readonly Permission[]>

/** roles that a grant can give; there is one owner, whom the launch ticket names */
export const GRANTED_ROLES = ['manager', 'user'] as const
export type GrantedRole = (typeof GRANTED_ROLES)[number]

/** What a grant of this role gives unless it says less: no word that may come to mean something later. */
export const offeredTo = (role: GrantedRole): readonly Permission[] =>
  OFFERED.filter(permission => (ROLES[role] as readonly Permission[]).includes(permission))
