/** Permissions, and the roles that are sets of them. What is not granted is denied. SPEC §2.7 */

/** every right there is; those without a command or route yet are reserved words */
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

/** The most that each role may do, and what it does unless its grant says less. */
export const ROLES = {
  owner: PERMISSIONS,
  manager: PERMISSIONS.filter(permission => permission !== 'users'),
  user: PERMISSIONS.filter(permission => permission !== 'users' && permission !== 'power'),
} as const satisfies Record<string, readonly Permission[]>

/** roles that a grant can give; there is one owner, whom the launch ticket names */
export const GRANTED_ROLES = ['manager', 'user'] as const
export type GrantedRole = (typeof GRANTED_ROLES)[number]
