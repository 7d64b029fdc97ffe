/**
 * What of a VM is shown to whom, as one table. The owner sees all of it, and so does an administrator, who runs the broker
 * and could look it up there. Who holds a grant sees what the rights in it need: never who else has one, nor what happened.
 */
import type { Vm } from '../../protocol/control/api.ts'
import type { Permission } from '../../protocol/control/roles.ts'

/** What a grant shows. */
export interface GrantedView {
  readonly permissions: readonly Permission[]
  /** ids of drives; null for every drive */
  readonly drives: readonly string[] | null
}

/** Which permission shows a member to the holder of a grant: any grant does, or one with that permission, or none. */
export const SHOWN: Readonly<Record<keyof Vm, Permission | 'any' | 'never'>> = {
  id: 'any',
  name: 'any',
  state: 'any',
  revision: 'any',
  owner: 'any',
  brick: 'any',
  brickSha256: 'any',
  launch: 'any',
  createdAt: 'any',
  memoryMiB: 'any',
  vcpus: 'any',
  // these two without the addresses, for which it takes `info`
  agent: 'any',
  certificate: 'any',
  // by these a client tells whether it is the same VM still
  formerCertificate: 'any',
  boots: 'any',
  waiting: 'any',
  // the broker puts in the own grant alone
  grants: 'any',
  // without the console, which is the owner's
  failure: 'power',
  // those that the grant names
  drives: 'drives',
  events: 'never',
}

const NOTHING: Pick<Vm, 'failure' | 'drives' | 'events'> = { failure: null, drives: [], events: [] }

/** The VM as the holder of a grant may see it. */
export function granted(vm: Vm, { permissions, drives }: GrantedView): Vm {
  const sees = (need: Permission | 'any' | 'never') =>
    need === 'any' || (need !== 'never' && permissions.includes(need))
  const addressed = <A extends { readonly addresses: readonly string[] }>(agent: A): A =>
    sees('info') ? agent : { ...agent, addresses: [] }
  return {
    ...vm,
    failure: sees(SHOWN.failure) && vm.failure ? { ...vm.failure, consoleTail: '' } : NOTHING.failure,
    drives: sees(SHOWN.drives) ? vm.drives.filter(id => drives === null || drives.includes(id)) : NOTHING.drives,
    events: sees(SHOWN.events) ? vm.events : NOTHING.events,
    agent: vm.agent && addressed(vm.agent),
    waiting: vm.waiting.map(addressed),
  }
}
